package cli

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
)

// refundPrefix begins the id of a refund.
const refundPrefix = "ref_"

func (c *command) receiptCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "receipt PAYMENT", Short: "Show or save the receipt of a deposit, or of a refund by its id", Args: exact(1, "the id of a payment or a refund"),
	}
	cmd.Flags().StringVar(&file, "file", "", "save it under this name, as CSV where it ends with .csv and as PDF otherwise; - writes the PDF to stdout. A file that is there already is kept")
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		api, err := c.api()
		if err != nil {
			return err
		}
		ctx, id, ofRefund := cmd.Context(), arguments[0], strings.HasPrefix(arguments[0], refundPrefix)
		if file == "" {
			var receipt client.Receipt
			body, err := decode(&receipt)(pick(ofRefund, func() (*http.Response, error) { return api.GetRefundReceipt(ctx, id) },
				func() (*http.Response, error) { return api.GetPaymentReceipt(ctx, id) }))
			if err != nil {
				return err
			}
			return c.show(body, func() table { return receiptTable(receipt) })
		}
		format := "pdf"
		if filepath.Ext(file) == ".csv" {
			format = "csv"
		}
		document, err := content(pick(ofRefund, func() (*http.Response, error) {
			return api.GetRefundReceiptDocument(ctx, id, &client.GetRefundReceiptDocumentParams{Format: optional(client.GetRefundReceiptDocumentParamsFormat(format))})
		}, func() (*http.Response, error) {
			return api.GetPaymentReceiptDocument(ctx, id, &client.GetPaymentReceiptDocumentParams{Format: optional(client.GetPaymentReceiptDocumentParamsFormat(format))})
		}))
		if err != nil {
			return err
		}
		if file == "-" {
			_, err = c.Out.Write(document)
			return err
		}
		return c.keep(file, document)
	}
	return cmd
}

// pick asks one of two things.
func pick(first bool, one, other func() (*http.Response, error)) (*http.Response, error) {
	if first {
		return one()
	}
	return other()
}

func receiptTable(r client.Receipt) table {
	tax := fmt.Sprintf("%s %s (%d.%02d %%)", amount(r.Tax.ContainedMicros, r.Currency), r.Tax.Name, r.Tax.BasisPoints/100, r.Tax.BasisPoints%100)
	return fields("number", r.Number, "kind", string(r.Kind), "amount", amount(r.AmountMicros, r.Currency), "tax contained", tax, "settled", instant(r.SettledAt),
		"seller", r.Seller.LegalName, "buyer", r.TenantName, "payment", r.PaymentID, "refund", text(r.RefundID), "reason", text(r.Reason),
		"entry", fmt.Sprint(r.LedgerEntryID))
}
