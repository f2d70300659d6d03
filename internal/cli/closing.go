package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
)

func (c *command) closingCommands() []*cobra.Command {
	return []*cobra.Command{
		c.exportCommand("export TENANT", "Write everything that a tenant has as JSON", exact(1, "the tenant's id"),
			func(ctx context.Context, api client.ClientInterface, arguments []string, cursor *string) (*http.Response, error) {
				return api.ExportTenant(ctx, arguments[0], &client.ExportTenantParams{Limit: optional(int64(exportPage)), Cursor: cursor})
			}),
		c.closeCommand(), c.reopenCommand(),
	}
}

func (c *command) meCommand() *cobra.Command {
	return group("me", "What is kept about you", c.exportCommand("export", "Write everything that is about you as JSON", none,
		func(ctx context.Context, api client.ClientInterface, _ []string, cursor *string) (*http.Response, error) {
			return api.ExportMe(ctx, &client.ExportMeParams{Limit: optional(int64(exportPage)), Cursor: cursor})
		}), c.deleteMeCommand())
}

// exportPage is how many rows one request asks for.
const exportPage = 5000

// exportCommand writes an export as one document, JSON unless -o says yaml, section after section as its pages arrive.
func (c *command) exportCommand(use, short string, arguments cobra.PositionalArgs,
	ask func(ctx context.Context, api client.ClientInterface, arguments []string, cursor *string) (*http.Response, error)) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: arguments, RunE: func(cmd *cobra.Command, arguments []string) error {
		api, err := c.api()
		if err != nil {
			return err
		}
		var whole client.Export
		var cursor *string
		for {
			var page client.Export
			if _, err := decode(&page)(ask(cmd.Context(), api, arguments, cursor)); err != nil {
				return err
			}
			whole = joinExport(whole, page)
			if cursor = page.NextCursor; cursor == nil {
				break
			}
		}
		whole.NextCursor = nil
		text, err := json.Marshal(whole)
		if err != nil {
			return fmt.Errorf("write the export: %w", err)
		}
		return writeAs(c.Out, c.output, text)
	}}
}

// joinExport adds a page: its first section may go on with the last one of the page before.
func joinExport(whole, page client.Export) client.Export {
	if whole.Sections == nil {
		return page
	}
	for _, section := range page.Sections {
		if last := len(whole.Sections) - 1; last >= 0 && whole.Sections[last].Name == section.Name {
			whole.Sections[last].Rows = append(whole.Sections[last].Rows, section.Rows...)
			continue
		}
		whole.Sections = append(whole.Sections, section)
	}
	return whole
}

const closingLoss = "Closing %s ends its tokens, service accounts and invitations for good, takes what remains out of its balance to be paid out, and " +
	"erases its personal data after the notice. Until then it can be opened again, without the money and the tokens."

func closingTable(closed client.Closing) table {
	return fields("tenant", closed.Tenant.ID, "status", string(closed.Tenant.Status), "to be paid out", amount(closed.RefundMicros, closed.Currency),
		"erased at", optionalInstant(closed.Tenant.EraseAt))
}

func (c *command) closeCommand() *cobra.Command {
	return operating(c, "close TENANT", "Close a tenant and refund what remains", exact(1, "the tenant's id"), closingLoss, closingTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string, reason string) (*http.Response, error) {
			key := newKey()
			return api.CloseTenant(ctx, arguments[0], &client.CloseTenantParams{XIdempotencyKey: &key}, client.OperateTenantRequest{Reason: reason})
		})
}

func (c *command) reopenCommand() *cobra.Command {
	return operating(c, "reopen TENANT", "Open a closed tenant again before it is erased", exact(1, "the tenant's id"), "", tenantTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string, reason string) (*http.Response, error) {
			key := newKey()
			return api.ReopenTenant(ctx, arguments[0], &client.ReopenTenantParams{XIdempotencyKey: &key}, client.OperateTenantRequest{Reason: reason})
		})
}

// anyClosingCommands are an operator's, for tenants that are not their own.
func (c *command) anyClosingCommands() []*cobra.Command {
	return []*cobra.Command{
		operating(c, "close TENANT", "Close any tenant and refund what remains", exact(1, "the tenant's id"), closingLoss, closingTable,
			func(ctx context.Context, api client.ClientInterface, arguments []string, reason string) (*http.Response, error) {
				key := newKey()
				return api.AdminCloseTenant(ctx, arguments[0], &client.AdminCloseTenantParams{XIdempotencyKey: &key}, client.OperateTenantRequest{Reason: reason})
			}),
		operating(c, "reopen TENANT", "Open any closed tenant again before it is erased", exact(1, "the tenant's id"), "", tenantTable,
			func(ctx context.Context, api client.ClientInterface, arguments []string, reason string) (*http.Response, error) {
				key := newKey()
				return api.AdminReopenTenant(ctx, arguments[0], &client.AdminReopenTenantParams{XIdempotencyKey: &key}, client.OperateTenantRequest{Reason: reason})
			}),
	}
}

func (c *command) deleteMeCommand() *cobra.Command {
	cmd := asking(c, "delete", "Erase yourself", none, nothing,
		func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
			key := newKey()
			return api.DeleteMe(ctx, &client.DeleteMeParams{XIdempotencyKey: &key})
		})
	request := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		if err := c.confirm("Deleting yourself erases your name, keys, tokens and memberships at once, and the closed tenants that you alone own. This cannot be undone."); err != nil {
			return err
		}
		return request(cmd, arguments)
	}
	return cmd
}

func (c *command) refundsDueCommand() *cobra.Command {
	list := listing(c, "List what closed tenants are to be paid out", []string{"ENTRY", "TENANT", "AMOUNT", "SINCE", "REASON"},
		func(r client.RefundDue) []string {
			return []string{fmt.Sprint(r.LedgerEntryID), r.TenantID, amount(r.AmountMicros, r.Currency), instant(r.CreatedAt), r.Reason}
		},
		func(ctx context.Context, api client.ClientInterface, size *int64, cursor *string) (*http.Response, error) {
			return api.ListRefundsDue(ctx, &client.ListRefundsDueParams{Limit: size, Cursor: cursor})
		})
	list.Use = "refunds-due"
	return list
}
