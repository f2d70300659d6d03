package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gpuaas/gpuaas/domain/money"
)

// table is what a command shows when nobody asked for JSON or YAML.
type table struct {
	header []string
	rows   [][]string
}

// show prints the answer: with -o json or yaml every field exactly as the API sent it, else the table made of it.
func (c *command) show(body []byte, render func() table) error {
	if c.structured() {
		return writeAs(c.Out, c.output, body)
	}
	return c.print(render())
}

// writeAs prints JSON for programs, as JSON or YAML.
func writeAs(to io.Writer, output string, body []byte) error {
	if output == "yaml" {
		return writeYAML(to, body)
	}
	indented, err := json.MarshalIndent(json.RawMessage(body), "", "  ")
	if err != nil {
		return fmt.Errorf("the API's answer is not JSON: %w", err)
	}
	_, err = fmt.Fprintln(to, string(indented))
	return err
}

// structured says whether the answer is shown for programs, and not as a table.
func (c *command) structured() bool { return c.output != "table" }

func (c *command) print(shown table) error {
	writer := tabwriter.NewWriter(c.Out, 0, 8, 2, ' ', 0)
	if len(shown.header) > 0 {
		fmt.Fprintln(writer, strings.Join(shown.header, "\t"))
	}
	for _, row := range shown.rows {
		for i, cell := range row {
			row[i] = printable(cell)
		}
		fmt.Fprintln(writer, strings.Join(row, "\t"))
	}
	return writer.Flush()
}

// printable keeps control characters that a name might carry from reaching the terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return '�'
		}
		return r
	}, text)
}

// fields is a table of one object: a name and a value a row, empty values left out.
func fields(pairs ...string) table {
	var shown table
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			shown.rows = append(shown.rows, []string{pairs[i], pairs[i+1]})
		}
	}
	return shown
}

// amount renders micros with every digit that counts: "12.345678 usd", "0.50 usd".
func amount(micros int64, currency string) string { return money.Micros(micros).Exact(currency) }

func instant(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format("2006-01-02T15:04:05.000Z")
}

func optionalInstant(at *time.Time) string {
	if at == nil {
		return ""
	}
	return instant(*at)
}

func text[T ~string](value *T) string {
	if value == nil {
		return ""
	}
	return string(*value)
}

// byteSize renders a size in binary units.
func byteSize(size int64) string {
	const unit = 1024
	value, suffix := float64(size), "B"
	for _, next := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if value < unit {
			break
		}
		value, suffix = value/unit, next
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", value), ".0") + " " + suffix
}

// confirm names what is lost and asks, unless --yes was given. Without a person at the other end it refuses.
func (c *command) confirm(loss string) error {
	if c.yes {
		return nil
	}
	fmt.Fprintf(c.Err, "%s\nGo on? [y/N] ", loss)
	answer, err := bufio.NewReader(c.In).ReadString('\n')
	if err != nil && answer == "" {
		fmt.Fprintln(c.Err)
		return usage("nobody answered; give --yes to go on without being asked")
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return declinedError{fmt.Errorf("nothing was done")}
}
