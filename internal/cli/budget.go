package cli

import (
	"context"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
)

func (c *command) projectBudgetCommand() *cobra.Command {
	shown := func(b client.ProjectBudget) table {
		return fields("project", b.ProjectID, "budget", amount(b.AmountMinor*microsPerMinor, b.Currency), "period", string(b.Period),
			"spent", amount(b.SpentMicros, b.Currency), "warning at", fmt.Sprintf("%d %%", b.WarningPercent), "warned", optionalInstant(b.WarningAt),
			"used up", optionalInstant(b.ExhaustedAt), "until", optionalInstant(b.PeriodEnd), "set", instant(b.SetAt))
	}
	get := asking(c, "get PROJECT", "Show what a project may spend, and what it has", exact(1, "the project's id"), shown,
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			return api.GetProjectBudget(ctx, arguments[0])
		})
	var period string
	var percent int64
	set := asking(c, "set PROJECT AMOUNT", "Set what a project may spend, such as 500.00", exact(2, "the project's id and an amount"), shown,
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			minor, err := minorUnits(arguments[1])
			if err != nil {
				return nil, err
			}
			key := newKey()
			return api.PutProjectBudget(ctx, arguments[0], &client.PutProjectBudgetParams{XIdempotencyKey: &key}, client.PutProjectBudgetRequest{
				AmountMinor: minor, Period: client.PutProjectBudgetRequestPeriod(period), WarningPercent: &percent,
			})
		})
	set.Flags().StringVar(&period, "period", "month", "month: what it may spend in a calendar month (UTC); total: in all")
	set.Flags().Int64Var(&percent, "warn-at", 80, "percent of it at which people are warned")
	remove := asking(c, "delete PROJECT", "Let a project spend what its tenant has", exact(1, "the project's id"), nothing,
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			key := newKey()
			return api.DeleteProjectBudget(ctx, arguments[0], &client.DeleteProjectBudgetParams{XIdempotencyKey: &key})
		})
	return group("budget", "What a project may spend", get, set, remove)
}
