package cli

import (
	"context"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
)

func (c *command) walletCommand() *cobra.Command {
	return group("wallet", "Put money in, and get it back", c.depositCommand(), c.depositsCommand(), c.paymentCommand(), c.refundCommand(), c.refundsCommand(), c.refundShowCommand(),
		c.receiptCommand(), c.cardCommand(), c.autoTopUpCommand())
}

func (c *command) depositCommand() *cobra.Command {
	var tenant string
	var save bool
	cmd := &cobra.Command{
		Use: "deposit AMOUNT", Short: "Open a page on which a deposit is paid",
		Long: "Open a page on which a deposit is paid. AMOUNT is in the account's currency itself, with at most two decimals: 25 or 12.50. The deposit is\nin the balance once the payment provider says that it was paid.",
		Args: exact(1, "an amount"),
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "into this tenant's account (default: the context's, or your own)")
	cmd.Flags().BoolVar(&save, "save-card", false, "save the card that is paid with, for automatic top-ups")
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		minor, err := minorUnits(arguments[0])
		if err != nil {
			return err
		}
		api, err := c.api()
		if err != nil {
			return err
		}
		in, err := c.tenantOf(tenant)
		if err != nil {
			return err
		}
		var paid client.Payment
		body, err := decode(&paid)(api.CreateCheckout(cmd.Context(), &client.CreateCheckoutParams{XIdempotencyKey: newKey()},
			client.CreateCheckoutRequest{AmountMinor: minor, TenantID: in, SaveCard: &save}))
		if err != nil {
			return err
		}
		return c.show(body, func() table { return paymentTable(paid) })
	}
	return cmd
}

func paymentTable(p client.Payment) table {
	entry := ""
	if p.LedgerEntryID != nil {
		entry = fmt.Sprint(*p.LedgerEntryID)
	}
	return fields("payment", p.ID, "state", string(p.State), "reason", text(p.StateReason), "amount", amount(p.AmountMicros, p.Currency), "pay at", text(p.CheckoutURL),
		"entry", entry, "asked", instant(p.CreatedAt), "until", optionalInstant(p.ExpiresAt), "credited", optionalInstant(p.CreditedAt))
}

var paymentHeader = []string{"PAYMENT", "STATE", "AMOUNT", "METHOD", "ASKED", "CREDITED", "REASON"}

func paymentRow(p client.Payment) []string {
	return []string{p.ID, string(p.State), amount(p.AmountMicros, p.Currency), string(p.Method), instant(p.CreatedAt), optionalInstant(p.CreditedAt), text(p.StateReason)}
}

func (c *command) depositsCommand() *cobra.Command {
	var tenant string
	cmd := listing(c, "List deposits, newest first", paymentHeader, paymentRow,
		func(ctx context.Context, api client.ClientInterface, size *int64, cursor *string) (*http.Response, error) {
			in, err := c.tenantOf(tenant)
			if err != nil {
				return nil, err
			}
			return api.ListPayments(ctx, &client.ListPaymentsParams{TenantID: in, Limit: size, Cursor: cursor})
		})
	cmd.Use = "deposits"
	cmd.Flags().StringVar(&tenant, "tenant", "", "of this tenant (default: the context's, or your own)")
	return cmd
}

func (c *command) paymentCommand() *cobra.Command {
	return asking(c, "show PAYMENT", "Show a deposit", exact(1, "the payment's id"), paymentTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			return api.GetPayment(ctx, arguments[0])
		})
}

func (c *command) refundCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{Use: "refund PAYMENT AMOUNT", Short: "Have a deposit, or a part of it, paid back", Args: exact(2, "the payment's id and an amount")}
	cmd.Flags().StringVar(&reason, "reason", "", "why; it is audited")
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
		var refund client.Refund
		body, err := decode(&refund)(api.CreateRefund(cmd.Context(), arguments[0], &client.CreateRefundParams{XIdempotencyKey: newKey()},
			client.CreateRefundRequest{AmountMinor: minor, Reason: reason}))
		if err != nil {
			return err
		}
		return c.show(body, func() table { return refundTable(refund) })
	}
	return cmd
}

func refundTable(r client.Refund) table {
	return fields("refund", r.ID, "payment", r.PaymentID, "state", string(r.State), "failure", text(r.FailureReason), "amount", amount(r.AmountMicros, r.Currency),
		"entry", fmt.Sprint(r.LedgerEntryID), "asked", instant(r.CreatedAt), "ended", optionalInstant(r.EndedAt), "reason", r.Reason)
}

func (c *command) refundsCommand() *cobra.Command {
	var tenant, payment string
	cmd := listing(c, "List refunds, newest first", []string{"REFUND", "STATE", "AMOUNT", "PAYMENT", "ASKED", "ENDED", "REASON"},
		func(r client.Refund) []string {
			return []string{r.ID, string(r.State), amount(r.AmountMicros, r.Currency), r.PaymentID, instant(r.CreatedAt), optionalInstant(r.EndedAt), r.Reason}
		},
		func(ctx context.Context, api client.ClientInterface, size *int64, cursor *string) (*http.Response, error) {
			in, err := c.tenantOf(tenant)
			if err != nil {
				return nil, err
			}
			return api.ListRefunds(ctx, &client.ListRefundsParams{TenantID: in, PaymentID: optional(payment), Limit: size, Cursor: cursor})
		})
	cmd.Use = "refunds"
	cmd.Flags().StringVar(&tenant, "tenant", "", "of this tenant (default: the context's, or your own)")
	cmd.Flags().StringVar(&payment, "payment", "", "only those of this payment")
	return cmd
}

func (c *command) refundShowCommand() *cobra.Command {
	return asking(c, "show-refund REFUND", "Show a refund", exact(1, "the refund's id"), refundTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			return api.GetRefund(ctx, arguments[0])
		})
}

func (c *command) anyPaymentsCommand() *cobra.Command {
	var state string
	cmd := listing(c, "List everybody's payments, newest first", append([]string{"TENANT"}, paymentHeader...),
		func(p client.Payment) []string { return append([]string{p.TenantID}, paymentRow(p)...) },
		func(ctx context.Context, api client.ClientInterface, size *int64, cursor *string) (*http.Response, error) {
			return api.AdminListPayments(ctx, &client.AdminListPaymentsParams{State: optional(client.AdminListPaymentsParamsState(state)), Limit: size, Cursor: cursor})
		})
	cmd.Use = "payments"
	cmd.Flags().StringVar(&state, "state", "", "only those in this state; held are those that an operator has to look at")
	return cmd
}

func (c *command) disputesCommand() *cobra.Command {
	var state string
	cmd := listing(c, "List disputed payments, newest first", []string{"DISPUTE", "STATE", "AMOUNT", "TENANT", "PAYMENT", "REASON", "EVIDENCE DUE", "OPENED"},
		func(d client.Dispute) []string {
			return []string{d.ID, string(d.State), amount(d.AmountMicros, d.Currency), d.TenantID, d.PaymentID, d.Reason, optionalInstant(d.EvidenceDueAt), instant(d.CreatedAt)}
		},
		func(ctx context.Context, api client.ClientInterface, size *int64, cursor *string) (*http.Response, error) {
			return api.AdminListDisputes(ctx, &client.AdminListDisputesParams{State: optional(client.AdminListDisputesParamsState(state)), Limit: size, Cursor: cursor})
		})
	cmd.Use = "disputes"
	cmd.Flags().StringVar(&state, "state", "", "only those in this state: open, won, lost")
	return cmd
}
