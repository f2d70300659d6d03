package cli

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
)

func (c *command) serviceAccountCommand() *cobra.Command {
	return group("service-account", "Programs that act for a tenant or a project",
		c.serviceAccountCreate(), c.serviceAccountList(), c.serviceAccountGet(), c.serviceAccountRotate(),
		c.serviceAccountSwitch("disable", "Refuse every token it has, at once", true),
		c.serviceAccountSwitch("enable", "Let it sign in again", false), c.serviceAccountRevokeSecret())
}

func (c *command) serviceAccountCreate() *cobra.Command {
	var role, project string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a service account and its first secret",
		Long: "Make a service account and its first secret. The secret is printed to stdout, once; the platform keeps only its hash.",
		Args: exact(1, "the account's name"),
	}
	cmd.Flags().StringVar(&role, "role", "", "admin, member, viewer or billing")
	cmd.Flags().StringVar(&project, "project", "", "the one project it belongs to (the context's, or the whole tenant)")
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		if role == "" {
			return usage("--role is needed")
		}
		api, err := c.api()
		if err != nil {
			return err
		}
		in, only, err := c.place("", project)
		if err != nil {
			return err
		}
		key := newKey()
		var account client.ServiceAccount
		if _, err := decode(&account)(api.CreateServiceAccount(cmd.Context(), &client.CreateServiceAccountParams{XIdempotencyKey: &key},
			client.CreateServiceAccountRequest{Name: arguments[0], Role: client.ServiceRole(role), TenantID: in, ProjectID: only})); err != nil {
			return err
		}
		return c.mintSecret(cmd.Context(), api, account.ID, nil)
	}
	return cmd
}

// mintSecret makes a secret and shows it.
func (c *command) mintSecret(ctx context.Context, api client.ClientInterface, account string, overlap *int64) error {
	key := newKey()
	var minted client.MintedServiceAccountSecret
	body, err := decode(&minted)(api.CreateServiceAccountSecret(ctx, account, &client.CreateServiceAccountSecretParams{XIdempotencyKey: &key},
		client.CreateServiceAccountSecretRequest{OverlapSeconds: overlap}))
	if err != nil {
		return err
	}
	fmt.Fprintf(c.Err, "service account (client id) %s, secret %s, shown once\n", minted.ClientID, minted.ID)
	return c.show(body, func() table { return table{rows: [][]string{{minted.ClientSecret}}} })
}

// overlapSeconds is for how long the secrets before a new one stay valid; nil where nothing is said.
func overlapSeconds(said string) (*int64, error) {
	if said == "" {
		return nil, nil
	}
	seconds, err := strconv.ParseInt(said, 10, 64)
	if err != nil || seconds < 0 {
		return nil, usage("--overlap takes a number of seconds")
	}
	return &seconds, nil
}

func (c *command) serviceAccountRotate() *cobra.Command {
	var overlap string
	cmd := &cobra.Command{
		Use: "rotate SERVICE-ACCOUNT", Short: "Make a new secret and let the ones before it end after an overlap",
		Args: exact(1, "the account's id"),
	}
	cmd.Flags().StringVar(&overlap, "overlap", "", "seconds for which the secrets before it stay valid (policy's value when absent; 0: end them now)")
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		seconds, err := overlapSeconds(overlap)
		if err != nil {
			return err
		}
		api, err := c.api()
		if err != nil {
			return err
		}
		return c.mintSecret(cmd.Context(), api, arguments[0], seconds)
	}
	return cmd
}

func (c *command) serviceAccountList() *cobra.Command {
	var project string
	cmd := &cobra.Command{Use: "list", Short: "List service accounts", Args: none}
	cmd.Flags().StringVar(&project, "project", "", "only those of this project")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		api, err := c.api()
		if err != nil {
			return err
		}
		in, only, err := c.place("", project)
		if err != nil {
			return err
		}
		accounts, body, err := all[client.ServiceAccount](cmd.Context(), 0, func(ctx context.Context, size int64, cursor *string) (*http.Response, error) {
			return api.ListServiceAccounts(ctx, &client.ListServiceAccountsParams{Limit: &size, Cursor: cursor, TenantID: in, ProjectID: only})
		})
		if err != nil {
			return err
		}
		return c.show(body, func() table {
			shown := table{header: []string{"ACCOUNT", "NAME", "ROLE", "PROJECT", "SECRETS", "CREATED", "DISABLED"}}
			for _, a := range accounts {
				shown.rows = append(shown.rows, []string{a.ID, a.Name, string(a.Role), text(a.ProjectID), strconv.Itoa(len(a.Secrets)), instant(a.CreatedAt), optionalInstant(a.DisabledAt)})
			}
			return shown
		})
	}
	return cmd
}

func (c *command) serviceAccountGet() *cobra.Command {
	return &cobra.Command{
		Use: "get SERVICE-ACCOUNT", Short: "Show one service account", Args: exact(1, "the account's id"),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			api, err := c.api()
			if err != nil {
				return err
			}
			return c.showServiceAccount(api.GetServiceAccount(cmd.Context(), arguments[0]))
		},
	}
}

func (c *command) showServiceAccount(response *http.Response, err error) error {
	var a client.ServiceAccount
	body, err := decode(&a)(response, err)
	if err != nil {
		return err
	}
	return c.show(body, func() table {
		shown := fields("account", a.ID, "name", a.Name, "role", string(a.Role), "tenant", a.TenantID, "project", text(a.ProjectID),
			"created by", a.CreatedBy, "created", instant(a.CreatedAt), "disabled", optionalInstant(a.DisabledAt))
		for _, secret := range a.Secrets {
			shown.rows = append(shown.rows, []string{"secret", fmt.Sprintf("%s made %s, ends %s, last used %s", secret.ID, instant(secret.CreatedAt),
				never(optionalInstant(secret.ExpiresAt)), never(optionalInstant(secret.LastUsedAt)))})
		}
		return shown
	})
}

func never(at string) string {
	if at == "" {
		return "never"
	}
	return at
}

func (c *command) serviceAccountSwitch(verb, short string, disabled bool) *cobra.Command {
	return &cobra.Command{
		Use: verb + " SERVICE-ACCOUNT", Short: short, Args: exact(1, "the account's id"),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			api, err := c.api()
			if err != nil {
				return err
			}
			key := newKey()
			return c.showServiceAccount(api.UpdateServiceAccount(cmd.Context(), arguments[0], &client.UpdateServiceAccountParams{XIdempotencyKey: &key},
				client.UpdateServiceAccountRequest{Disabled: disabled}))
		},
	}
}

func (c *command) serviceAccountRevokeSecret() *cobra.Command {
	return &cobra.Command{
		Use: "revoke-secret SERVICE-ACCOUNT SECRET", Short: "Revoke a secret at once, with the tokens it was exchanged for", Args: exact(2, "the account's and the secret's id"),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			if err := c.confirm("Revoking secret " + arguments[1] + " cuts off whatever uses it, with every token that it was exchanged for."); err != nil {
				return err
			}
			api, err := c.api()
			if err != nil {
				return err
			}
			key := newKey()
			return c.showServiceAccount(api.RevokeServiceAccountSecret(cmd.Context(), arguments[0], arguments[1], &client.RevokeServiceAccountSecretParams{XIdempotencyKey: &key}))
		},
	}
}
