package api

import (
	"bytes"
	"context"
	"io"
	"slices"
	"time"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/internal/statement"
	"github.com/gpuaas/gpuaas/schema/queries"
)

const (
	monthLayout = "2006-01"
	// maxUsageDays and maxUsageLines bound what one request of usage adds up and answers.
	maxUsageDays  = 366
	maxUsageLines = 10_000
)

type usageLineBody struct {
	Day          string        `json:"day,omitempty" format:"date" doc:"The UTC day; absent where days are added up."`
	ProjectID    id.Project    `json:"project_id,omitempty"`
	SKU          id.SKU        `json:"sku,omitempty"`
	AllocationID id.Allocation `json:"allocation_id,omitempty"`
	MeteredMS    int64         `json:"metered_ms" doc:"The time that was charged, in milliseconds."`
	UsageMicros  int64         `json:"usage_micros"`
	CreditMicros int64         `json:"credit_micros"`
	NetMicros    int64         `json:"net_micros"`
	Entries      int64         `json:"entries"`
}

type usageBody struct {
	AccountID id.Account      `json:"account_id"`
	Currency  string          `json:"currency"`
	From      string          `json:"from" format:"date"`
	To        string          `json:"to" format:"date"`
	Items     []usageLineBody `json:"items"`
	Total     usageLineBody   `json:"total"`
}

type usageIn struct {
	Where
	From    string   `query:"from" format:"date"`
	To      string   `query:"to" format:"date"`
	GroupBy []string `query:"group_by" enum:"day,project,sku,allocation" maxItems:"4" default:"project,sku"`
}

type usageOut struct{ Body usageBody }

type StatementMonthBody struct {
	Month string `json:"month" pattern:"^20[0-9]{2}-(0[1-9]|1[0-2])$"`
	From  string `json:"from" format:"date"`
	To    string `json:"to" format:"date"`
}

type statementMonthListOut struct {
	Body struct {
		Items []StatementMonthBody `json:"items"`
	}
}

type StatementPath struct {
	Where
	Month string `path:"month" pattern:"^20[0-9]{2}-(0[1-9]|1[0-2])$"`
}

type sellerBody struct {
	LegalName string `json:"legal_name"`
	Address   string `json:"address"`
	TaxNumber string `json:"tax_number"`
}

type movementBody struct {
	Kind         string `json:"kind"`
	AmountMicros int64  `json:"amount_micros"`
	Entries      int64  `json:"entries"`
}

type taxBody struct {
	Name            string `json:"name"`
	BasisPoints     int64  `json:"basis_points"`
	ContainedMicros int64  `json:"contained_micros"`
}

type statementBody struct {
	StatementMonthBody
	AccountID      id.Account      `json:"account_id"`
	TenantID       id.Tenant       `json:"tenant_id"`
	TenantName     string          `json:"tenant_name"`
	Currency       string          `json:"currency"`
	Seller         sellerBody      `json:"seller"`
	OpeningMicros  int64           `json:"opening_micros"`
	ClosingMicros  int64           `json:"closing_micros"`
	Movements      []movementBody  `json:"movements"`
	Usage          []usageLineBody `json:"usage"`
	NetUsageMicros int64           `json:"net_usage_micros"`
	Tax            taxBody         `json:"tax"`
	Final          bool            `json:"final"`
}

type (
	statementOut        struct{ Body statementBody }
	statementDocumentIn struct {
		StatementPath
		Format string `query:"format" required:"true" enum:"csv,pdf"`
	}
	statementDocumentOut struct {
		ContentType string `header:"Content-Type"`
		Disposition string `header:"Content-Disposition"`
		Body        []byte
	}
)

func (s *server) statementOperations() {
	handle(s, "getUsage", s.getUsage)
	handle(s, "listStatements", s.listStatements)
	handle(s, "getStatement", s.getStatement)
	handle(s, "getStatementDocument", s.getStatementDocument)
}

func (s *server) getUsage(ctx context.Context, in *usageIn) (*usageOut, error) {
	from, to, err := in.days(s.config.Now().UTC())
	if err != nil {
		return nil, err
	}
	at := middleware.At(ctx)
	account, err := queries.AccountOfTenant(ctx, s.config.Pool, at.TenantID)
	if err != nil {
		return nil, err
	}
	lines, err := s.statements.Usage(ctx, at.TenantID, account.ID, from, to)
	if err != nil {
		return nil, err
	}
	if at.ProjectID != "" {
		lines = slices.DeleteFunc(lines, func(line billing.UsageLine) bool { return line.ProjectID != at.ProjectID })
	}
	groups := billing.Group(lines, in.grouping())
	if len(groups) > maxUsageLines {
		return nil, invalid("query.group_by", "the usage has more than 10,000 lines: ask for fewer days or keep fewer things apart")
	}
	body := usageBody{AccountID: account.ID, Currency: account.Currency, From: from.Format(time.DateOnly), To: to.Format(time.DateOnly), Items: renderUsage(groups)}
	for _, total := range billing.Group(lines, billing.Grouping{}) {
		body.Total = renderUsageLine(total)
	}
	return &usageOut{Body: body}, nil
}

// days is the time that is asked for: whole UTC days, by default those of this month.
func (in usageIn) days(now time.Time) (from, to time.Time, err error) {
	today := now.Truncate(24 * time.Hour)
	from, to = today.AddDate(0, 0, 1-today.Day()), today.AddDate(0, 0, 1)
	if in.From != "" {
		if from, err = time.Parse(time.DateOnly, in.From); err != nil || from.Year() < 2000 {
			return from, to, invalid("query.from", "expected a day since 2000-01-01, such as 2026-03-01")
		}
	}
	if in.To != "" {
		if to, err = time.Parse(time.DateOnly, in.To); err != nil {
			return from, to, invalid("query.to", "expected a day such as 2026-04-01")
		}
	}
	if !to.After(from) || to.After(from.AddDate(0, 0, maxUsageDays)) {
		return from, to, invalid("query.to", "expected a day at most 366 days behind the first one")
	}
	return from, to, nil
}

func (in usageIn) grouping() billing.Grouping {
	return billing.Grouping{
		Day: slices.Contains(in.GroupBy, "day"), Project: slices.Contains(in.GroupBy, "project"),
		SKU: slices.Contains(in.GroupBy, "sku"), Allocation: slices.Contains(in.GroupBy, "allocation"),
	}
}

func (s *server) listStatements(ctx context.Context, _ *Where) (*statementMonthListOut, error) {
	_, first, err := s.accountSince(ctx)
	if err != nil {
		return nil, err
	}
	out := &statementMonthListOut{}
	out.Body.Items = []StatementMonthBody{}
	for month := monthOf(s.config.Now()); !month.Before(first); month = month.AddDate(0, -1, 0) {
		out.Body.Items = append(out.Body.Items, renderMonth(month))
	}
	return out, nil
}

func (s *server) getStatement(ctx context.Context, in *StatementPath) (*statementOut, error) {
	found, err := s.statementOf(ctx, in.Month)
	if err != nil {
		return nil, err
	}
	return &statementOut{Body: renderStatement(found)}, nil
}

func (s *server) getStatementDocument(ctx context.Context, in *statementDocumentIn) (*statementDocumentOut, error) {
	found, err := s.statementOf(ctx, in.Month)
	if err != nil {
		return nil, err
	}
	return documentOf("statement-"+in.Month, in.Format, found, statement.WriteCSV, statement.WritePDF)
}

// documentOf is a statement or a receipt as a file that is saved under the name, as PDF for "pdf" and else as CSV.
func documentOf[Content any](name, format string, content Content, csv, pdf func(io.Writer, Content) error) (*statementDocumentOut, error) {
	write, contentType := csv, "text/csv; charset=utf-8"
	if format == "pdf" {
		write, contentType = pdf, "application/pdf"
	}
	var body bytes.Buffer
	err := write(&body, content)
	return &statementDocumentOut{ContentType: contentType, Disposition: `attachment; filename="` + name + `.` + format + `"`, Body: body.Bytes()}, err
}

// statementOf reads the statement of a month of the tenant that the request is about. Fault: StatementNotFound for a month that has
// not begun, or that was over when the account was made.
func (s *server) statementOf(ctx context.Context, month string) (billing.Statement, error) {
	account, first, err := s.accountSince(ctx)
	if err != nil {
		return billing.Statement{}, err
	}
	from, err := time.Parse(monthLayout, month)
	if err != nil || from.Before(first) || from.After(s.config.Now()) {
		return billing.Statement{}, fault.New(fault.StatementNotFound, "")
	}
	return s.statements.Of(ctx, middleware.At(ctx).TenantID, account, from, from.AddDate(0, 1, 0))
}

// accountSince is the account that the request is about, and the month in which it was made.
func (s *server) accountSince(ctx context.Context) (queries.Account, time.Time, error) {
	tenant := middleware.At(ctx).TenantID
	account, err := queries.AccountOfTenant(ctx, s.config.Pool, tenant)
	if err != nil {
		return account, time.Time{}, err
	}
	made, err := queries.AccountMadeAt(ctx, s.config.Pool, tenant, account.ID)
	return account, monthOf(made), err
}

// monthOf is the first instant of a time's month, in UTC.
func monthOf(at time.Time) time.Time {
	at = at.UTC()
	return time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)
}

func renderMonth(from time.Time) StatementMonthBody {
	return StatementMonthBody{Month: from.Format(monthLayout), From: from.Format(time.DateOnly), To: from.AddDate(0, 1, 0).Format(time.DateOnly)}
}

func renderStatement(found billing.Statement) statementBody {
	body := statementBody{
		StatementMonthBody: renderMonth(found.From), AccountID: found.AccountID, TenantID: found.TenantID, TenantName: found.TenantName, Currency: found.Currency,
		Seller:        sellerBody{LegalName: found.Seller.LegalName, Address: found.Seller.Address, TaxNumber: found.Seller.TaxNumber},
		OpeningMicros: int64(found.OpeningMicros), ClosingMicros: int64(found.ClosingMicros), Movements: []movementBody{}, Usage: renderUsage(found.Usage),
		NetUsageMicros: int64(found.NetUsageMicros()), Final: found.Final,
		Tax: taxBody{Name: found.Tax.Name, BasisPoints: found.Tax.BasisPoints, ContainedMicros: int64(found.TaxMicros)},
	}
	for _, movement := range found.Movements {
		body.Movements = append(body.Movements, movementBody{Kind: movement.Kind, AmountMicros: int64(movement.AmountMicros), Entries: movement.Entries})
	}
	return body
}

func renderUsage(lines []billing.UsageLine) []usageLineBody {
	rendered := make([]usageLineBody, len(lines))
	for i, line := range lines {
		rendered[i] = renderUsageLine(line)
	}
	return rendered
}

func renderUsageLine(line billing.UsageLine) usageLineBody {
	body := usageLineBody{
		ProjectID: line.ProjectID, SKU: line.SKU, AllocationID: line.AllocationID, MeteredMS: line.MeteredMS, UsageMicros: int64(line.UsageMicros),
		CreditMicros: int64(line.CreditMicros), NetMicros: int64(line.NetMicros()), Entries: line.Entries,
	}
	if !line.Day.IsZero() {
		body.Day = line.Day.Format(time.DateOnly)
	}
	return body
}
