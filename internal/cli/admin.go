package cli

import (
	"fmt"
	"math/big"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
)

func (c *command) adminCommand() *cobra.Command {
	return group("admin", "What only administrators of the platform do", c.forceReleaseCommand(), c.creditCommand(),
		c.priceCommand(), c.pricesCommand(), c.putSKUCommand(), c.overrideCommand(),
		c.userCommand(), c.anyTenantCommand(), c.platformAdminCommand(), c.accountCommand(), c.refundsDueCommand(), c.anyPaymentsCommand(), c.disputesCommand(), c.adminLedgerCommand(),
		c.outboxCommand(), c.deadLetterCommand(), c.reconcileCommand())
}

func (c *command) forceReleaseCommand() *cobra.Command {
	var reason string
	var abandon bool
	cmd := &cobra.Command{Use: "force-release ALLOCATION", Short: "Release anybody's allocation, with a fresh budget of attempts", Args: exact(1, "the allocation's id")}
	cmd.Flags().StringVar(&reason, "reason", "", "why; it is audited")
	cmd.Flags().BoolVar(&abandon, "abandon-node", false, "end without a wipe; the node stays quarantined")
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		if reason == "" {
			return usage("--reason is needed; it is audited")
		}
		said := fmt.Sprintf("Force-releasing %s ends every session and deletes its user and every file on its node. This cannot be undone.", arguments[0])
		if abandon {
			said = fmt.Sprintf("Abandoning the node of %s ends the allocation without a wipe: its certificate will say \"not wiped\", and the node stays quarantined.", arguments[0])
		}
		if err := c.confirm(said); err != nil {
			return err
		}
		api, err := c.api()
		if err != nil {
			return err
		}
		key := newKey()
		var released client.Allocation
		body, err := decode(&released)(api.ForceReleaseAllocation(cmd.Context(), arguments[0], &client.ForceReleaseAllocationParams{XIdempotencyKey: &key},
			client.ForceReleaseRequest{Reason: reason, AbandonNode: &abandon}))
		if err != nil {
			return err
		}
		return c.show(body, func() table { return allocationTable(released) })
	}
	return cmd
}

func (c *command) creditCommand() *cobra.Command {
	var reason, currency, key string
	cmd := &cobra.Command{
		Use: "credit ACCOUNT|USERNAME AMOUNT", Short: "Credit an account, or debit it with a negative amount",
		Long: "Credit an account, or debit it with a negative amount (after --). AMOUNT is in the currency itself, with at most two decimals: 25 or 12.50.",
		Args: exact(2, "an account id or a user name, and an amount"),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; it is audited")
	cmd.Flags().StringVar(&currency, "currency", "usd", "the account's currency")
	cmd.Flags().StringVar(&key, "idempotency-key", "", "repeat an earlier request safely (default: a new one)")
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		if reason == "" {
			return usage("--reason is needed; it is audited")
		}
		minor, err := minorUnits(arguments[1])
		if err != nil {
			return err
		}
		api, err := c.api()
		if err != nil {
			return err
		}
		account := arguments[0]
		if !strings.HasPrefix(account, "acct_") {
			var accounts client.AccountList
			if _, err := decode(&accounts)(api.ListAccounts(cmd.Context(), &client.ListAccountsParams{Username: &account})); err != nil {
				return err
			}
			if len(accounts.Items) != 1 {
				return usage("%q names %d accounts; give the account's id", account, len(accounts.Items))
			}
			account = accounts.Items[0].ID
		}
		if minor < 0 {
			if err := c.confirm(fmt.Sprintf("Debiting %s takes %s from it. A correction is a new entry; this one stays for ever.", account, amount(-minor*10_000, currency))); err != nil {
				return err
			}
		}
		if key == "" {
			key = newKey()
		}
		var adjusted client.Adjustment
		body, err := decode(&adjusted)(api.CreateAdjustment(cmd.Context(), account, &client.CreateAdjustmentParams{XIdempotencyKey: key},
			client.CreateAdjustmentRequest{AmountMinor: minor, Currency: currency, Reason: reason}))
		if err != nil {
			return err
		}
		return c.show(body, func() table {
			return fields("adjustment", adjusted.ID, "account", adjusted.AccountID, "amount", amount(adjusted.AmountMicros, adjusted.Currency),
				"entry", fmt.Sprint(adjusted.LedgerEntryID), "balance", amount(adjusted.BalanceMicros, adjusted.Currency), "reason", adjusted.Reason)
		})
	}
	return cmd
}

// minorUnits reads "12.50" as 1250; more than two decimals is a mistake, never a rounding.
func minorUnits(text string) (int64, error) {
	return scaled(text, 100, "at most two decimals")
}

func scaled(text string, units int64, limit string) (int64, error) {
	value, ok := new(big.Rat).SetString(text)
	if !ok || strings.ContainsAny(text, "eE/xX_") {
		return 0, usage("%q is not an amount", text)
	}
	value.Mul(value, new(big.Rat).SetInt64(units))
	if !value.IsInt() {
		return 0, usage("%q has too many decimals: %s", text, limit)
	}
	if !value.Num().IsInt64() {
		return 0, usage("%q is beyond any amount", text)
	}
	return value.Num().Int64(), nil
}

func (c *command) priceCommand() *cobra.Command {
	var currency, validFrom string
	cmd := &cobra.Command{
		Use: "price SKU AMOUNT", Short: "Add a price an hour to a SKU; running allocations keep theirs",
		Args: exact(2, "the SKU and the price an hour"),
	}
	cmd.Flags().StringVar(&currency, "currency", "usd", "the price's currency")
	cmd.Flags().StringVar(&validFrom, "valid-from", "", "RFC 3339 instant (default: now)")
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		micros, err := scaled(arguments[1], 1_000_000, "at most six decimals")
		if err != nil {
			return err
		}
		request := client.AddSKUPriceRequest{Currency: currency, RateMicrosPerHour: micros}
		if validFrom != "" {
			from, err := time.Parse(time.RFC3339, validFrom)
			if err != nil {
				return usage("--valid-from takes an instant such as 2026-01-31T00:00:00Z")
			}
			request.ValidFrom = &from
		}
		api, err := c.api()
		if err != nil {
			return err
		}
		key := newKey()
		var price client.SKUPrice
		body, err := decode(&price)(api.AddSKUPrice(cmd.Context(), arguments[0], &client.AddSKUPriceParams{XIdempotencyKey: &key}, request))
		if err != nil {
			return err
		}
		return c.show(body, func() table {
			return fields("price", price.ID, "sku", price.SKU, "price/hour", amount(price.RateMicrosPerHour, price.Currency), "valid from", instant(price.ValidFrom))
		})
	}
	return cmd
}

func (c *command) putSKUCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "sku SKU", Short: "Create or replace a SKU from a JSON description (--file, - for stdin)", Args: exact(1, "the SKU"),
	}
	cmd.Flags().StringVar(&file, "file", "-", "JSON as the API takes it")
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		source := c.In
		if file != "-" {
			opened, err := os.Open(file)
			if err != nil {
				return usage("read the description: %v", err)
			}
			defer func() { _ = opened.Close() }()
			source = opened
		}
		api, err := c.api()
		if err != nil {
			return err
		}
		key := newKey()
		var sku client.SKU
		body, err := decode(&sku)(api.PutSKUWithBody(cmd.Context(), arguments[0], &client.PutSKUParams{XIdempotencyKey: &key}, "application/json", source))
		if err != nil {
			return err
		}
		return c.show(body, func() table { return skuTable(sku) })
	}
	return cmd
}
