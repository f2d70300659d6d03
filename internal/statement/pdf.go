package statement

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"codeberg.org/go-pdf/fpdf"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"

	"github.com/gpuaas/gpuaas/domain/billing"
)

// Sizes on an A4 page, in millimetres and points.
const (
	margin    = 18.0
	lineHigh  = 5.0
	textSize  = 9.0
	titleSize = 16.0
	pageWide  = 210.0 - 2*margin
)

// WritePDF writes a statement as a document to file: who sells, who buys, the balances, what moved them, the usage by project and
// SKU, by allocation and by day, and the tax that the prices contain. The same statement is the same document, byte for byte.
func WritePDF(w io.Writer, s billing.Statement) error {
	d := newDocument(fmt.Sprintf("Statement %s", s.From.Format("January 2006")), s.To)
	d.parties(s.Seller, s.TenantName, string(s.TenantID), string(s.AccountID))
	d.facts([][2]string{
		{"Period", s.From.Format(time.DateOnly) + " to " + s.To.AddDate(0, 0, -1).Format(time.DateOnly) + " (UTC)"},
		{"Currency", strings.ToUpper(s.Currency)},
		{"Opening balance", Amount(s.OpeningMicros)},
		{"Usage", Amount(-s.NetUsageMicros())},
	})
	for _, movement := range s.Others() {
		d.facts([][2]string{{words(movement.Kind), Amount(movement.AmountMicros)}})
	}
	d.facts([][2]string{{"Closing balance", Amount(s.ClosingMicros)}, {taxLine(s.Tax), Amount(s.TaxMicros)}})
	if !s.Final {
		d.note("This statement is not final: entries can still be added to it.")
	}
	d.usage("By project and SKU", billing.Group(s.Usage, billing.Grouping{Project: true, SKU: true}))
	d.usage("By allocation", billing.Group(s.Usage, billing.Grouping{Allocation: true, SKU: true}))
	d.usage("By day", billing.Group(s.Usage, billing.Grouping{Day: true}))
	if err := d.pdf.Output(w); err != nil {
		return fmt.Errorf("write a statement as PDF: %w", err)
	}
	return nil
}

// taxLine names the tax that prices contain.
func taxLine(tax billing.Tax) string {
	if tax.BasisPoints == 0 {
		return "Tax contained in usage"
	}
	return fmt.Sprintf("%s contained in usage (%d.%02d %%)", orElse(tax.Name, "Tax"), tax.BasisPoints/100, tax.BasisPoints%100)
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// words makes a heading of a kind: "opening_credit" is "Opening credit".
func words(kind string) string {
	text := strings.ReplaceAll(kind, "_", " ")
	if text == "" {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// written is text as the font's encoding holds it: what is beyond the basic multilingual plane, such as an emoji in a tenant's name, is
// written as the replacement character, because the document could not be made at all with it.
func written(text string) string {
	return strings.Map(func(r rune) rune {
		if r > 0xffff {
			return utf8.RuneError
		}
		return r
	}, text)
}

// document is a page that grows downwards.
type document struct{ pdf *fpdf.Fpdf }

// newDocument begins one; made is the date that it carries, so that it does not depend on when it is asked for.
func newDocument(title string, made time.Time) document {
	pdf := fpdf.New("P", "mm", "A4", "")
	pdf.SetCatalogSort(true)
	pdf.SetCreationDate(made.UTC())
	pdf.SetModificationDate(made.UTC())
	pdf.SetMargins(margin, margin, margin)
	pdf.SetAutoPageBreak(true, margin)
	pdf.AddUTF8FontFromBytes("Go", "", goregular.TTF)
	pdf.AddUTF8FontFromBytes("Go", "B", gobold.TTF)
	pdf.SetTitle(title, true)
	pdf.SetFooterFunc(func() {
		pdf.SetY(-margin + lineHigh)
		pdf.SetFont("Go", "", textSize-2)
		pdf.CellFormat(0, lineHigh, fmt.Sprintf("%s · page %d", title, pdf.PageNo()), "", 0, "R", false, 0, "")
	})
	pdf.AddPage()
	pdf.SetFont("Go", "B", titleSize)
	pdf.CellFormat(0, 2*lineHigh, title, "", 1, "L", false, 0, "")
	pdf.Ln(lineHigh)
	return document{pdf}
}

// parties writes the seller on the left and the buyer on the right.
func (d document) parties(seller billing.Seller, buyer ...string) {
	top := d.pdf.GetY()
	d.block(margin, append([]string{seller.LegalName}, append(strings.Split(seller.Address, "\n"), seller.TaxNumber)...))
	below := d.pdf.GetY()
	d.pdf.SetY(top)
	d.block(margin+pageWide/2, buyer)
	d.pdf.SetY(max(below, d.pdf.GetY()) + lineHigh)
}

func (d document) block(left float64, lines []string) {
	for i, line := range lines {
		if line == "" {
			continue
		}
		style := ""
		if i == 0 {
			style = "B"
		}
		d.pdf.SetFont("Go", style, textSize)
		d.pdf.SetX(left)
		d.pdf.MultiCell(pageWide/2-2, lineHigh, written(line), "", "L", false)
	}
}

// facts writes a name and a value a line.
func (d document) facts(facts [][2]string) {
	d.pdf.SetFont("Go", "", textSize)
	for _, fact := range facts {
		d.pdf.CellFormat(pageWide*0.6, lineHigh, written(fact[0]), "", 0, "L", false, 0, "")
		d.pdf.CellFormat(pageWide*0.4, lineHigh, written(fact[1]), "", 1, "R", false, 0, "")
	}
}

func (d document) note(text string) {
	d.pdf.Ln(lineHigh)
	d.pdf.SetFont("Go", "B", textSize)
	d.pdf.MultiCell(0, lineHigh, written(text), "", "L", false)
}

// usage writes a table of lines that are grouped in one way.
func (d document) usage(title string, lines []billing.UsageLine) {
	if len(lines) == 0 {
		return
	}
	d.pdf.Ln(lineHigh)
	d.pdf.SetFont("Go", "B", textSize+1)
	d.pdf.CellFormat(0, lineHigh+1, title, "", 1, "L", false, 0, "")
	d.row("B", "", "Time (h:mm:ss)", "Charged", "Given back", "Net")
	var total billing.UsageLine
	for _, line := range lines {
		d.row("", name(line), duration(line.MeteredMS), Amount(line.UsageMicros), Amount(line.CreditMicros), Amount(line.NetMicros()))
		total.MeteredMS += line.MeteredMS
		total.UsageMicros += line.UsageMicros
		total.CreditMicros += line.CreditMicros
	}
	d.row("B", "Sum", duration(total.MeteredMS), Amount(total.UsageMicros), Amount(total.CreditMicros), Amount(total.NetMicros()))
}

func (d document) row(style string, columns ...string) {
	d.pdf.SetFont("Go", style, textSize-1.5)
	widths := []float64{0.42, 0.16, 0.14, 0.14, 0.14}
	for i, text := range columns {
		align := "R"
		if i == 0 {
			align = "L"
		}
		d.pdf.CellFormat(pageWide*widths[i], lineHigh, written(text), "", 0, align, false, 0, "")
	}
	d.pdf.Ln(lineHigh)
}

// name is what a group of lines has in common.
func name(line billing.UsageLine) string {
	var parts []string
	if !line.Day.IsZero() {
		parts = append(parts, line.Day.Format(time.DateOnly))
	}
	for _, part := range []string{string(line.ProjectID), string(line.AllocationID), string(line.SKU)} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "  ")
}

// duration writes milliseconds as hours, minutes and seconds, and the rest where there is one.
func duration(ms int64) string {
	whole := ms / 1000
	text := fmt.Sprintf("%d:%02d:%02d", whole/3600, whole/60%60, whole%60)
	if rest := ms % 1000; rest != 0 {
		text += fmt.Sprintf(".%03d", rest)
	}
	return text
}
