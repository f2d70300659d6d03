package cli

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
)

func (c *command) tokenCommand() *cobra.Command {
	return group("token", "Personal access tokens", c.tokenCreate(), c.tokenList(), c.tokenRevoke())
}

func (c *command) tokenCreate() *cobra.Command {
	var scopes []string
	var seconds int64
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a personal access token",
		Long: "Make a personal access token. It is printed to stdout, once; the platform keeps only its hash.",
		Args: exact(1, "the token's name"),
	}
	cmd.Flags().StringSliceVar(&scopes, "scope", nil, "what it is good for, such as allocations:read (may be given several times)")
	cmd.Flags().Int64Var(&seconds, "expires-in", 0, "seconds until it expires (as long as policy allows when absent)")
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		if len(scopes) == 0 {
			return usage("--scope is needed")
		}
		api, err := c.api()
		if err != nil {
			return err
		}
		key := newKey()
		var made client.CreatedToken
		body, err := decode(&made)(api.CreateToken(cmd.Context(), &client.CreateTokenParams{XIdempotencyKey: &key},
			client.CreateTokenRequest{Name: arguments[0], Scopes: scopesOf(scopes), ExpiresInSeconds: optional(seconds)}))
		if err != nil {
			return err
		}
		fmt.Fprintf(c.Err, "token %s, valid until %s, shown once\n", made.ID, instant(made.ExpiresAt))
		return c.show(body, func() table { return table{rows: [][]string{{made.Token}}} })
	}
	return cmd
}

func scopesOf(names []string) []client.Scope {
	scopes := make([]client.Scope, len(names))
	for i, name := range names {
		scopes[i] = client.Scope(name)
	}
	return scopes
}

func (c *command) tokenList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List your personal access tokens", Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := c.api()
			if err != nil {
				return err
			}
			tokens, body, err := all[client.Token](cmd.Context(), 0, func(ctx context.Context, size int64, cursor *string) (*http.Response, error) {
				return api.ListTokens(ctx, &client.ListTokensParams{Limit: &size, Cursor: cursor})
			})
			if err != nil {
				return err
			}
			return c.show(body, func() table {
				shown := table{header: []string{"TOKEN", "NAME", "SCOPES", "EXPIRES", "LAST USED", "REVOKED"}}
				for _, token := range tokens {
					shown.rows = append(shown.rows, []string{token.ID, token.Name, scopeText(token.Scopes), instant(token.ExpiresAt),
						optionalInstant(token.LastUsedAt), optionalInstant(token.RevokedAt)})
				}
				return shown
			})
		},
	}
}

func scopeText(scopes []client.Scope) string {
	names := make([]string, len(scopes))
	for i, scope := range scopes {
		names[i] = string(scope)
	}
	return strings.Join(names, " ")
}

func (c *command) tokenRevoke() *cobra.Command {
	return &cobra.Command{
		Use: "revoke ACCESS-TOKEN", Short: "Revoke a personal access token at once", Args: exact(1, "the token's id"),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			if err := c.confirm("Revoking token " + arguments[0] + " cuts off whatever uses it, with every token that was made with it."); err != nil {
				return err
			}
			api, err := c.api()
			if err != nil {
				return err
			}
			key := newKey()
			var token client.Token
			body, err := decode(&token)(api.RevokeToken(cmd.Context(), arguments[0], &client.RevokeTokenParams{XIdempotencyKey: &key}))
			if err != nil {
				return err
			}
			return c.show(body, func() table {
				return fields("token", token.ID, "name", token.Name, "revoked", optionalInstant(token.RevokedAt))
			})
		},
	}
}
