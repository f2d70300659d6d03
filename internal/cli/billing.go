package cli

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
)

func (c *command) balanceCommand() *cobra.Command {
	var tenant string
	cmd := &cobra.Command{Use: "balance", Short: "Show what is left, and what is running up", Args: none}
	cmd.Flags().StringVar(&tenant, "tenant", "", "of this tenant (default: the context's, or your own)")
	return c.watching(cmd, func(ctx context.Context, api client.ClientInterface, _ []string) (view, error) {
		in, err := c.tenantOf(tenant)
		if err != nil {
			return view{}, err
		}
		var balance client.Balance
		body, err := decode(&balance)(api.GetBalance(ctx, &client.GetBalanceParams{TenantID: in}))
		if err != nil {
			return view{}, err
		}
		var runway client.Runway
		if _, err := decode(&runway)(api.GetRunway(ctx, &client.GetRunwayParams{TenantID: in})); err != nil {
			return view{}, err
		}
		return view{body: body, render: func() table { return runwayTable(balance, runway) }}, nil
	})
}

func balanceTable(balance client.Balance) table { return fields(balanceFields(balance)...) }

func balanceFields(balance client.Balance) []string {
	return []string{"account", balance.AccountID, "balance", amount(balance.BalanceMicros, balance.Currency),
		"accrued", amount(balance.AccruedMicros, balance.Currency), "available", amount(balance.AvailableMicros, balance.Currency),
		"running/hour", amount(balance.RateMicrosPerHour, balance.Currency), "as of", instant(balance.AsOf)}
}

// runwayTable is the balance with how long it lasts.
func runwayTable(balance client.Balance, runway client.Runway) table {
	standing := make([]string, len(runway.Rungs))
	for i, rung := range runway.Rungs {
		standing[i] = string(rung.Rung)
	}
	return fields(append(balanceFields(balance), "warning at", optionalInstant(runway.LowBalanceAt),
		"release announced at", optionalInstant(runway.AutoReleaseAnnouncedAt), "used up at", optionalInstant(runway.DepletedAt),
		"standing on", strings.Join(standing, ", "))...)
}

func (c *command) ledgerCommand() *cobra.Command {
	var allocation, tenant string
	var limit int64
	cmd := &cobra.Command{Use: "ledger", Short: "List your account's ledger entries, newest first", Args: none}
	cmd.AddCommand(c.ledgerExport())
	cmd.Flags().StringVar(&allocation, "allocation", "", "only entries of this allocation")
	cmd.Flags().StringVar(&tenant, "tenant", "", "of this tenant (default: the context's, or your own)")
	cmd.Flags().Int64Var(&limit, "limit", 50, "how many entries (0: all)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if limit < 0 {
			return usage("--limit is not negative")
		}
		api, err := c.api()
		if err != nil {
			return err
		}
		in, err := c.tenantOf(tenant)
		if err != nil {
			return err
		}
		entries, body, err := all[client.LedgerEntry](cmd.Context(), limit, func(ctx context.Context, size int64, cursor *string) (*http.Response, error) {
			return api.ListLedgerEntries(ctx, &client.ListLedgerEntriesParams{AllocationID: optional(allocation), TenantID: in, Limit: &size, Cursor: cursor})
		})
		if err != nil {
			return err
		}
		return c.show(body, func() table {
			shown := table{header: []string{"ENTRY", "KIND", "AMOUNT", "ALLOCATION", "FROM", "TO", "POSTED"}}
			for _, e := range entries {
				shown.rows = append(shown.rows, []string{fmt.Sprint(e.ID), string(e.Kind), amount(e.AmountMicros, e.Currency), text(e.AllocationID),
					optionalInstant(e.PeriodStart), optionalInstant(e.PeriodEnd), instant(e.CreatedAt)})
			}
			return shown
		})
	}
	return cmd
}
