package cli

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	openapi_types "github.com/oapi-codegen/runtime/types"
	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
)

// entriesPage is how many entries are asked for at a time.
const entriesPage int64 = 200

func (c *command) ledgerExport() *cobra.Command {
	var from, to, tenant, format, file string
	cmd := &cobra.Command{
		Use: "export", Short: "Save all of your account's ledger entries, newest first, as CSV or JSON", Args: none,
		Long: "Save all of your account's ledger entries, or those that were posted in a time, newest first. They are written a page at a time, so their number does not\n" +
			"matter. A file that is there already is kept, and one that could not be written to its end is removed.",
	}
	cmd.Flags().StringVar(&from, "from", "", "the first UTC day, such as 2026-03-01 (default: that of the first entry)")
	cmd.Flags().StringVar(&to, "to", "", "the UTC day behind the last one (default: tomorrow)")
	cmd.Flags().StringVar(&format, "format", "", "csv or json (default: what the file's name ends with, or csv)")
	cmd.Flags().StringVar(&file, "file", "", "where to; - writes to stdout (default: ledger.FORMAT)")
	cmd.Flags().StringVar(&tenant, "tenant", "", "of this tenant (default: the context's, or your own)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case format != "":
		case filepath.Ext(file) == ".json":
			format = "json"
		default:
			format = "csv"
		}
		write, known := map[string]func(io.Writer, ledgerPages) error{"csv": writeEntriesCSV, "json": writeEntriesJSON}[format]
		if !known {
			return usage("--format takes csv or json")
		}
		pages, err := c.ledgerPages(cmd.Context(), from, to, tenant)
		if err != nil {
			return err
		}
		if file == "-" {
			return write(c.Out, pages)
		}
		if file == "" {
			file = "ledger." + format
		}
		return c.stream(file, func(out io.Writer) error { return write(out, pages) })
	}
	return cmd
}

// ledgerPages hands on each page of entries, as they were answered and as they are read.
type ledgerPages func(take func(raw []json.RawMessage, entries []client.LedgerEntry) error) error

// ledgerPages asks for the entries of a time, a page after the other.
func (c *command) ledgerPages(ctx context.Context, from, to, tenant string) (ledgerPages, error) {
	first, err := day("--from", from)
	if err != nil {
		return nil, err
	}
	behind, err := day("--to", to)
	if err != nil {
		return nil, err
	}
	api, err := c.api()
	if err != nil {
		return nil, err
	}
	in, err := c.tenantOf(tenant)
	if err != nil {
		return nil, err
	}
	asked := client.ListLedgerEntriesParams{TenantID: in, Since: startOf(first), Until: startOf(behind), Limit: optional(entriesPage)}
	return func(take func([]json.RawMessage, []client.LedgerEntry) error) error {
		for {
			var next page[json.RawMessage]
			if _, err := decode(&next)(api.ListLedgerEntries(ctx, &asked)); err != nil {
				return err
			}
			entries := make([]client.LedgerEntry, len(next.Items))
			for i, item := range next.Items {
				if err := json.Unmarshal(item, &entries[i]); err != nil {
					return fmt.Errorf("an entry cannot be read: %w", err)
				}
			}
			if err := take(next.Items, entries); err != nil {
				return err
			}
			if asked.Cursor = next.NextCursor; asked.Cursor == nil {
				return nil
			}
		}
	}, nil
}

func startOf(day *openapi_types.Date) *time.Time {
	if day == nil {
		return nil
	}
	return &day.Time
}

// writeEntriesCSV writes RFC 4180 text with a line an entry below its header. Amounts are signed as the account sees them.
func writeEntriesCSV(w io.Writer, pages ledgerPages) error {
	out := csv.NewWriter(w)
	out.UseCRLF = true
	if err := out.Write([]string{"id", "posted_at", "kind", "amount_micros", "amount", "currency", "allocation_id", "period_start", "period_end", "reverses_id"}); err != nil {
		return err
	}
	err := pages(func(_ []json.RawMessage, entries []client.LedgerEntry) error {
		for _, e := range entries {
			if err := out.Write([]string{
				strconv.FormatInt(e.ID, 10), precise(&e.CreatedAt), string(e.Kind), strconv.FormatInt(e.AmountMicros, 10), exactly(e.AmountMicros), e.Currency,
				text(e.AllocationID), precise(e.PeriodStart), precise(e.PeriodEnd), number(e.ReversesID),
			}); err != nil {
				return err
			}
		}
		out.Flush()
		return out.Error()
	})
	out.Flush()
	if err != nil {
		return err
	}
	return out.Error()
}

// writeEntriesJSON writes one array with each entry as the API answered it, a line an entry.
func writeEntriesJSON(w io.Writer, pages ledgerPages) error {
	out := bufio.NewWriter(w)
	separator := "[\n"
	err := pages(func(raw []json.RawMessage, _ []client.LedgerEntry) error {
		for _, entry := range raw {
			if _, err := fmt.Fprintf(out, "%s%s", separator, entry); err != nil {
				return err
			}
			separator = ",\n"
		}
		return out.Flush()
	})
	if err != nil {
		return err
	}
	if separator == "[\n" {
		_, err = out.WriteString("[]\n")
	} else {
		_, err = out.WriteString("\n]\n")
	}
	if err != nil {
		return err
	}
	return out.Flush()
}

// precise is an instant with all that was answered of it.
func precise(at *time.Time) string {
	if at == nil {
		return ""
	}
	return at.UTC().Format(time.RFC3339Nano)
}

// exactly writes micros as a decimal number with six places, nothing rounded.
func exactly(micros int64) string {
	sign, rest := "", uint64(micros) //nolint:gosec // the sign is taken off below
	if micros < 0 {
		sign, rest = "-", -rest
	}
	return fmt.Sprintf("%s%d.%06d", sign, rest/1_000_000, rest%1_000_000)
}

func number(value *int64) string {
	if value == nil {
		return ""
	}
	return strconv.FormatInt(*value, 10)
}

// stream writes a new file as it comes, and says where it is. What could not be written to its end is removed.
func (c *command) stream(file string, write func(io.Writer) error) error {
	made, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return usage("the file cannot be made: %w", err)
	}
	err = write(made)
	if closeErr := made.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		_ = os.Remove(file)
		return err
	}
	_, err = fmt.Fprintln(c.Err, "saved "+file)
	return err
}
