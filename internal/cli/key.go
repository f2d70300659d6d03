package cli

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
)

func (c *command) keyCommand() *cobra.Command {
	return group("key", "SSH public keys of a project", c.keyAdd(), c.keyList(), c.keyDelete())
}

func (c *command) keyAdd() *cobra.Command {
	var project string
	cmd := &cobra.Command{Use: "add NAME FILE", Short: "Keep the public key in a file", Args: exact(2, "a name and the file of a public key")}
	cmd.Flags().StringVar(&project, "project", "", "the project (the context's, or your default one)")
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		line, err := os.ReadFile(arguments[1])
		if err != nil {
			return usage("the key cannot be read: %w", err)
		}
		if strings.Contains(string(line), "PRIVATE KEY") {
			return usage("%s holds a private key: give the public one, which ends in .pub", arguments[1])
		}
		api, err := c.api()
		if err != nil {
			return err
		}
		_, in, err := c.place("", project)
		if err != nil {
			return err
		}
		key := newKey()
		var added client.SSHKey
		body, err := decode(&added)(api.CreateSSHKey(cmd.Context(), &client.CreateSSHKeyParams{XIdempotencyKey: &key},
			client.CreateSSHKeyRequest{Name: arguments[0], PublicKey: strings.TrimSpace(string(line)), ProjectID: in}))
		if err != nil {
			return err
		}
		return c.show(body, func() table { return keyTable(added) })
	}
	return cmd
}

func keyTable(key client.SSHKey) table {
	return fields("key", key.ID, "name", key.Name, "fingerprint", key.Fingerprint, "project", key.ProjectID, "added by", key.UserID, "added", instant(key.CreatedAt))
}

func (c *command) keyList() *cobra.Command {
	var project string
	cmd := &cobra.Command{Use: "list", Short: "List keys", Args: none}
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
		keys, body, err := all[client.SSHKey](cmd.Context(), 0, func(ctx context.Context, size int64, cursor *string) (*http.Response, error) {
			return api.ListSSHKeys(ctx, &client.ListSSHKeysParams{Limit: &size, Cursor: cursor, TenantID: in, ProjectID: only})
		})
		if err != nil {
			return err
		}
		return c.show(body, func() table {
			shown := table{header: []string{"KEY", "NAME", "FINGERPRINT", "PROJECT", "ADDED"}}
			for _, key := range keys {
				shown.rows = append(shown.rows, []string{key.ID, key.Name, key.Fingerprint, key.ProjectID, instant(key.CreatedAt)})
			}
			return shown
		})
	}
	return cmd
}

func (c *command) keyDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete SSH-KEY", Short: "Forget a key; allocations that were made with it keep it", Args: exact(1, "the key's id"),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			api, err := c.api()
			if err != nil {
				return err
			}
			key := newKey()
			var gone client.SSHKey
			body, err := decode(&gone)(api.DeleteSSHKey(cmd.Context(), arguments[0], &client.DeleteSSHKeyParams{XIdempotencyKey: &key}))
			if err != nil {
				return err
			}
			fmt.Fprintf(c.Err, "forgotten\n")
			return c.show(body, func() table { return keyTable(gone) })
		},
	}
}
