package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	openapi_types "github.com/oapi-codegen/runtime/types"
	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
)

// groupings are what usage can be kept apart by.
var groupings = []string{"day", "project", "sku", "allocation"}

func (c *command) usageCommand() *cobra.Command {
	var from, to, tenant, project string
	var by []string
	cmd := &cobra.Command{Use: "usage", Short: "Show what was used and what it cost, summed from the ledger", Args: none}
	cmd.Flags().StringVar(&from, "from", "", "the first UTC day, such as 2026-03-01 (default: the first of this month)")
	cmd.Flags().StringVar(&to, "to", "", "the UTC day behind the last one (default: tomorrow)")
	cmd.Flags().StringSliceVar(&by, "by", []string{"project", "sku"}, "what keeps lines apart: "+strings.Join(groupings, ", "))
	cmd.Flags().StringVar(&tenant, "tenant", "", "of this tenant (default: the context's, or your own)")
	cmd.Flags().StringVar(&project, "project", "", "only of this project")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		asked := client.GetUsageParams{}
		var err error
		if asked.From, err = day("--from", from); err != nil {
			return err
		}
		if asked.To, err = day("--to", to); err != nil {
			return err
		}
		grouped := []client.GetUsageParamsGroupBy{}
		for _, one := range by {
			if !slices.Contains(groupings, one) {
				return usage("--by takes %s", strings.Join(groupings, ", "))
			}
			grouped = append(grouped, client.GetUsageParamsGroupBy(one))
		}
		asked.GroupBy = &grouped
		if asked.TenantID, asked.ProjectID, err = c.place(tenant, project); err != nil {
			return err
		}
		api, err := c.api()
		if err != nil {
			return err
		}
		var used client.Usage
		body, err := decode(&used)(api.GetUsage(cmd.Context(), &asked))
		if err != nil {
			return err
		}
		return c.show(body, func() table { return usageTable(used) })
	}
	return cmd
}

func usageTable(used client.Usage) table {
	shown := table{header: []string{"DAY", "PROJECT", "SKU", "ALLOCATION", "TIME", "CHARGED", "GIVEN BACK", "NET"}}
	for _, line := range append(slices.Clone(used.Items), used.Total) {
		on := ""
		if line.Day != nil {
			on = line.Day.Format(time.DateOnly)
		}
		shown.rows = append(shown.rows, []string{on, text(line.ProjectID), text(line.SKU), text(line.AllocationID),
			(time.Duration(line.MeteredMs) * time.Millisecond).String(), amount(line.UsageMicros, used.Currency),
			amount(line.CreditMicros, used.Currency), amount(line.NetMicros, used.Currency)})
	}
	shown.rows[len(shown.rows)-1][0] = "total"
	return shown
}

// day reads a flag that takes a day of the calendar; nil where it is absent.
func day(flag, written string) (*openapi_types.Date, error) {
	if written == "" {
		return nil, nil
	}
	at, err := time.Parse(time.DateOnly, written)
	if err != nil {
		return nil, usage("%s takes a day such as 2026-03-01", flag)
	}
	return &openapi_types.Date{Time: at}, nil
}

func (c *command) statementCommand() *cobra.Command {
	return group("statement", "Read and keep monthly statements", c.statementList(), c.statementGet(), c.statementSave())
}

func (c *command) statementList() *cobra.Command {
	var tenant string
	cmd := &cobra.Command{Use: "list", Short: "List the months that have a statement, newest first", Args: none}
	cmd.Flags().StringVar(&tenant, "tenant", "", "of this tenant (default: the context's, or your own)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		api, err := c.api()
		if err != nil {
			return err
		}
		in, err := c.tenantOf(tenant)
		if err != nil {
			return err
		}
		var months client.StatementMonthList
		body, err := decode(&months)(api.ListStatements(cmd.Context(), &client.ListStatementsParams{TenantID: in}))
		if err != nil {
			return err
		}
		return c.show(body, func() table {
			shown := table{header: []string{"MONTH", "FROM", "TO"}}
			for _, month := range months.Items {
				shown.rows = append(shown.rows, []string{month.Month, month.From.Format(time.DateOnly), month.To.Format(time.DateOnly)})
			}
			return shown
		})
	}
	return cmd
}

func (c *command) statementGet() *cobra.Command {
	var tenant string
	cmd := &cobra.Command{Use: "get MONTH", Short: "Show the statement of a month, such as 2026-03", Args: exact(1, "the month, such as 2026-03")}
	cmd.Flags().StringVar(&tenant, "tenant", "", "of this tenant (default: the context's, or your own)")
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		api, err := c.api()
		if err != nil {
			return err
		}
		in, err := c.tenantOf(tenant)
		if err != nil {
			return err
		}
		var found client.Statement
		body, err := decode(&found)(api.GetStatement(cmd.Context(), arguments[0], &client.GetStatementParams{TenantID: in}))
		if err != nil {
			return err
		}
		return c.show(body, func() table { return statementTable(found) })
	}
	return cmd
}

func statementTable(found client.Statement) table {
	pairs := []string{"month", found.Month, "account", found.AccountID, "opening balance", amount(found.OpeningMicros, found.Currency)}
	for _, movement := range found.Movements {
		pairs = append(pairs, movement.Kind, amount(movement.AmountMicros, found.Currency))
	}
	pairs = append(pairs, "closing balance", amount(found.ClosingMicros, found.Currency), "net usage", amount(found.NetUsageMicros, found.Currency))
	if found.Tax.BasisPoints > 0 {
		pairs = append(pairs, fmt.Sprintf("%s contained (%d.%02d %%)", found.Tax.Name, found.Tax.BasisPoints/100, found.Tax.BasisPoints%100),
			amount(found.Tax.ContainedMicros, found.Currency))
	}
	return fields(append(pairs, "final", fmt.Sprint(found.Final))...)
}

func (c *command) statementSave() *cobra.Command {
	var tenant, file string
	cmd := &cobra.Command{
		Use: "save MONTH", Short: "Save the statement of a month as PDF or CSV", Args: exact(1, "the month, such as 2026-03"),
		Long: "Save the statement of a month under a name that ends with .pdf or .csv, which says what it becomes. A file that is there already is kept.",
	}
	cmd.Flags().StringVar(&file, "file", "", "where to; - writes CSV to stdout (default: statement-MONTH.pdf)")
	cmd.Flags().StringVar(&tenant, "tenant", "", "of this tenant (default: the context's, or your own)")
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		if file == "" {
			file = "statement-" + arguments[0] + ".pdf"
		}
		format := strings.TrimPrefix(filepath.Ext(file), ".")
		if file == "-" {
			format = "csv"
		}
		if format != "pdf" && format != "csv" {
			return usage("--file must end with .pdf or .csv")
		}
		api, err := c.api()
		if err != nil {
			return err
		}
		in, err := c.tenantOf(tenant)
		if err != nil {
			return err
		}
		document, err := content(api.GetStatementDocument(cmd.Context(), arguments[0],
			&client.GetStatementDocumentParams{TenantID: in, Format: client.GetStatementDocumentParamsFormat(format)}))
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

// keep writes a new file and says where it is.
func (c *command) keep(file string, document []byte) error {
	made, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return usage("the file cannot be made: %w", err)
	}
	if _, err = made.Write(document); err == nil {
		err = made.Close()
	}
	if err != nil {
		return fmt.Errorf("%s cannot be written: %w", file, err)
	}
	_, err = fmt.Fprintln(c.Err, "saved "+file)
	return err
}
