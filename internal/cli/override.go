package cli

import (
	"context"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
)

// overrideCommand is what admins agree on with one tenant.
func (c *command) overrideCommand() *cobra.Command {
	return group("override", "What holds for one tenant alone: policies and prices", c.listOverridesCommand(), c.setOverrideCommand(), c.clearOverrideCommand(), c.overrideHistoryCommand(),
		c.tenantPricesCommand(), c.tenantPriceCommand())
}

func (c *command) listOverridesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list TENANT", Short: "List what may be set for a tenant, with what holds for it", Args: exact(1, "the tenant's id"),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			api, err := c.api()
			if err != nil {
				return err
			}
			var policies client.TenantPolicyList
			body, err := decode(&policies)(api.ListTenantPolicies(cmd.Context(), arguments[0]))
			if err != nil {
				return err
			}
			return c.show(body, func() table { return overridesTable(policies) })
		},
	}
}

func (c *command) setOverrideCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "set TENANT KEY VALUE [KEY VALUE]…", Short: "Set policies for a tenant: all of them or none",
		Args: func(_ *cobra.Command, arguments []string) error {
			if len(arguments) < 3 || len(arguments)%2 != 1 {
				return usage("a tenant's id, a key and its value are needed, or several pairs of them")
			}
			return nil
		},
	}
	return c.changingOverrides(cmd, func(arguments []string) []client.TenantPolicyChange {
		var changes []client.TenantPolicyChange
		for i := 0; i < len(arguments); i += 2 {
			value := policyValue(arguments[i+1])
			changes = append(changes, client.TenantPolicyChange{Key: arguments[i], Value: value})
		}
		return changes
	})
}

func (c *command) clearOverrideCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "clear TENANT KEY…", Short: "Let the platform's values hold for a tenant again",
		Args: func(_ *cobra.Command, arguments []string) error {
			if len(arguments) < 2 {
				return usage("a tenant's id and a key are needed, or several")
			}
			return nil
		},
	}
	return c.changingOverrides(cmd, func(arguments []string) []client.TenantPolicyChange {
		var changes []client.TenantPolicyChange
		for _, key := range arguments {
			changes = append(changes, client.TenantPolicyChange{Key: key})
		}
		return changes
	})
}

// changingOverrides completes a command whose first argument is a tenant and whose others say what changes for it.
func (c *command) changingOverrides(cmd *cobra.Command, changes func(arguments []string) []client.TenantPolicyChange) *cobra.Command {
	var reason string
	cmd.Flags().StringVar(&reason, "reason", "", "why; it is audited")
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		if reason == "" {
			return usage("--reason is needed; it is audited")
		}
		api, err := c.api()
		if err != nil {
			return err
		}
		key := newKey()
		var policies client.TenantPolicyList
		body, err := decode(&policies)(api.SetTenantPolicies(cmd.Context(), arguments[0], &client.SetTenantPoliciesParams{XIdempotencyKey: &key},
			client.SetTenantPoliciesRequest{Changes: changes(arguments[1:]), Reason: reason}))
		if err != nil {
			return err
		}
		return c.show(body, func() table { return overridesTable(policies) })
	}
	return cmd
}

func overridesTable(policies client.TenantPolicyList) table {
	shown := table{header: []string{"KEY", "VALUE", "PLATFORM", "OWN", "VERSION", "REASON"}}
	for _, p := range policies.Items {
		shown.rows = append(shown.rows, []string{p.Key, fmt.Sprint(p.Value), fmt.Sprint(p.PlatformValue), fmt.Sprint(p.Overridden), fmt.Sprint(p.Version), text(p.Reason)})
	}
	return shown
}

func (c *command) tenantPricesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "prices TENANT", Short: "List every price that was set for a tenant", Args: exact(1, "the tenant's id"),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			api, err := c.api()
			if err != nil {
				return err
			}
			prices, body, err := all[client.TenantPrice](cmd.Context(), 0, func(ctx context.Context, size int64, cursor *string) (*http.Response, error) {
				return api.ListTenantPrices(ctx, arguments[0], &client.ListTenantPricesParams{Limit: &size, Cursor: cursor})
			})
			if err != nil {
				return err
			}
			return c.show(body, func() table {
				shown := table{header: []string{"PRICE", "SKU", "PRICE/HOUR", "VALID FROM"}}
				for _, price := range prices {
					shown.rows = append(shown.rows, []string{price.ID, price.SKU, tenantPriceText(price), instant(price.ValidFrom)})
				}
				return shown
			})
		},
	}
}

func (c *command) tenantPriceCommand() *cobra.Command {
	var currency, reason string
	var withdraw bool
	cmd := &cobra.Command{
		Use: "price TENANT SKU [AMOUNT]", Short: "Set a price an hour for a tenant, or withdraw it; running allocations keep theirs",
		Args: func(cmd *cobra.Command, arguments []string) error {
			if len(arguments) != 2 && len(arguments) != 3 {
				return usage("%s takes a tenant's id, a SKU and an amount", cmd.CommandPath())
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&currency, "currency", "usd", "the price's currency")
	cmd.Flags().BoolVar(&withdraw, "withdraw", false, "let the list price hold again")
	cmd.Flags().StringVar(&reason, "reason", "", "why; it is audited")
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		if reason == "" {
			return usage("--reason is needed; it is audited")
		}
		if withdraw == (len(arguments) == 3) {
			return usage("either an amount or --withdraw is needed")
		}
		request := client.SetTenantPriceRequest{SKU: arguments[1], Currency: currency, Reason: reason}
		if !withdraw {
			micros, err := scaled(arguments[2], 1_000_000, "at most six decimals")
			if err != nil {
				return err
			}
			request.RateMicrosPerHour = &micros
		}
		api, err := c.api()
		if err != nil {
			return err
		}
		key := newKey()
		var price client.TenantPrice
		body, err := decode(&price)(api.SetTenantPrice(cmd.Context(), arguments[0], &client.SetTenantPriceParams{XIdempotencyKey: &key}, request))
		if err != nil {
			return err
		}
		return c.show(body, func() table {
			return fields("price", price.ID, "sku", price.SKU, "price/hour", tenantPriceText(price), "valid from", instant(price.ValidFrom))
		})
	}
	return cmd
}

func tenantPriceText(price client.TenantPrice) string {
	if price.Withdrawn {
		return "withdrawn"
	}
	return amount(price.RateMicrosPerHour, price.Currency)
}
