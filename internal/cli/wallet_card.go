package cli

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
)

func (c *command) cardCommand() *cobra.Command {
	var tenant string
	add := asking(c, "add", "Open a page on which a card is saved; it takes the place of the one before", none, cardTable,
		func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
			in, err := c.tenantOf(tenant)
			if err != nil {
				return nil, err
			}
			return api.CreateCard(ctx, &client.CreateCardParams{XIdempotencyKey: newKey()}, client.CreateCardRequest{TenantID: in})
		})
	show := asking(c, "show", "Show the saved card", none, cardTable,
		func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
			in, err := c.tenantOf(tenant)
			if err != nil {
				return nil, err
			}
			return api.GetCard(ctx, &client.GetCardParams{TenantID: in})
		})
	remove := asking(c, "remove", "Remove the saved card", none, nothing,
		func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
			in, err := c.tenantOf(tenant)
			if err != nil {
				return nil, err
			}
			if err := c.confirm("The saved card is not charged any more, and an automatic top-up ends with it."); err != nil {
				return nil, err
			}
			key := newKey()
			return api.DeleteCard(ctx, &client.DeleteCardParams{TenantID: in, XIdempotencyKey: &key})
		})
	for _, cmd := range []*cobra.Command{add, show, remove} {
		cmd.Flags().StringVar(&tenant, "tenant", "", "of this tenant (default: the context's, or your own)")
	}
	return group("card", "The card that is charged by itself", add, show, remove)
}

func cardTable(card client.Card) table {
	until := ""
	if card.ExpMonth != nil && card.ExpYear != nil {
		until = fmt.Sprintf("%02d/%d", *card.ExpMonth, *card.ExpYear)
	}
	return fields("card", card.ID, "state", string(card.State), "number", strings.TrimSpace(text(card.Brand)+" "+text(card.Last4)), "expires", until,
		"save at", text(card.CheckoutURL), "until", optionalInstant(card.ExpiresAt), "saved", optionalInstant(card.SavedAt), "by", card.UserID)
}

func (c *command) autoTopUpCommand() *cobra.Command {
	var tenant, threshold, amount, most string
	put := func(ctx context.Context, api client.ClientInterface, in *string, wish client.PutAutoTopUpRequest) (*http.Response, error) {
		key := newKey()
		return api.PutAutoTopUp(ctx, &client.PutAutoTopUpParams{TenantID: in, XIdempotencyKey: &key}, wish)
	}
	show := asking(c, "show", "Show when the saved card is charged, and how that stands", none, autoTopUpTable,
		func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
			in, err := c.tenantOf(tenant)
			if err != nil {
				return nil, err
			}
			return api.GetAutoTopUp(ctx, &client.GetAutoTopUpParams{TenantID: in})
		})
	set := asking(c, "set", "Have the saved card charged before the balance reaches a threshold", none, autoTopUpTable,
		func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
			in, err := c.tenantOf(tenant)
			if err != nil {
				return nil, err
			}
			wish := client.PutAutoTopUpRequest{Enabled: true}
			for _, given := range []struct {
				flag, text string
				minor      *int64
			}{{"--threshold", threshold, &wish.ThresholdMinor}, {"--amount", amount, &wish.AmountMinor}, {"--cap", most, &wish.MonthlyCapMinor}} {
				if given.text == "" {
					return nil, usage("%s is needed, such as 25.00", given.flag)
				}
				if *given.minor, err = minorUnits(given.text); err != nil {
					return nil, err
				}
			}
			return put(ctx, api, in, wish)
		})
	set.Flags().StringVar(&threshold, "threshold", "", "the balance that is not to be reached")
	set.Flags().StringVar(&amount, "amount", "", "what is charged at once")
	set.Flags().StringVar(&most, "cap", "", "the most that is charged in a calendar month (UTC)")
	off := asking(c, "off", "Charge the saved card by itself no more", none, autoTopUpTable,
		func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
			in, err := c.tenantOf(tenant)
			if err != nil {
				return nil, err
			}
			var now client.AutoTopUp
			if _, err := decode(&now)(api.GetAutoTopUp(ctx, &client.GetAutoTopUpParams{TenantID: in})); err != nil {
				return nil, err
			}
			if now.AmountMinor == 0 {
				return nil, usage("no automatic top-up was ever set")
			}
			return put(ctx, api, in, client.PutAutoTopUpRequest{ThresholdMinor: now.ThresholdMinor, AmountMinor: now.AmountMinor, MonthlyCapMinor: now.MonthlyCapMinor})
		})
	for _, cmd := range []*cobra.Command{show, set, off} {
		cmd.Flags().StringVar(&tenant, "tenant", "", "of this tenant (default: the context's, or your own)")
	}
	return group("auto-topup", "Charging the saved card by itself", show, set, off)
}

func autoTopUpTable(t client.AutoTopUp) table {
	money := func(minor int64) string { return amount(minor*microsPerMinor, t.Currency) }
	return fields("account", t.AccountID, "status", string(t.Status), "threshold", money(t.ThresholdMinor), "amount", money(t.AmountMinor),
		"charged this month", money(t.ChargedMinor), "at most", money(t.MonthlyCapMinor), "month ends", instant(t.MonthEndsAt), "failed in a row", fmt.Sprint(t.Failures),
		"not before", optionalInstant(t.RetryAt), "paused", optionalInstant(t.PausedAt), "because", text(t.PausedReason), "payment", text(t.PaymentID))
}
