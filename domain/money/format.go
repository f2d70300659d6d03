package money

import (
	"fmt"
	"strings"
)

// Text writes micros as people read money: two decimals, rounded down, and the currency.
func (m Micros) Text(currency string) string {
	minor, sign := m.Minor(), ""
	if minor < 0 {
		minor, sign = -minor, "-"
	}
	return fmt.Sprintf("%s%d.%02d %s", sign, minor/100, minor%100, currency)
}

// Exact writes micros with every digit that counts, two decimals at least, and the currency: "12.345678 usd", "0.50 usd".
func (m Micros) Exact(currency string) string {
	sign, whole := "", uint64(m) //nolint:gosec // the sign is taken off below
	if m < 0 {
		sign, whole = "-", -whole
	}
	fraction := strings.TrimRight(fmt.Sprintf("%06d", whole%1_000_000), "0")
	if len(fraction) < 2 {
		fraction += strings.Repeat("0", 2-len(fraction))
	}
	return fmt.Sprintf("%s%d.%s %s", sign, whole/1_000_000, fraction, currency)
}
