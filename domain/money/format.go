package money

import "fmt"

// Text writes micros as people read money: two decimals, rounded down, and the currency.
func (m Micros) Text(currency string) string {
	minor, sign := m.Minor(), ""
	if minor < 0 {
		minor, sign = -minor, "-"
	}
	return fmt.Sprintf("%s%d.%02d %s", sign, minor/100, minor%100, currency)
}
