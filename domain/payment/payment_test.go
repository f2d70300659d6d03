package payment_test

import (
	"errors"
	"math"
	"testing"

	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/domain/payment"
)

func TestAmountsAreCountedInTheSmallestUnitOfTheirCurrency(t *testing.T) {
	for name, want := range map[string]struct {
		currency string
		micros   money.Micros
		units    int64
		refused  bool
	}{
		"cents":                            {"usd", 12_340_000, 1234, false},
		"a part of a cent":                 {"usd", 12_345_678, 0, true},
		"whole yen":                        {"jpy", 1_500_000_000, 1500, false},
		"a part of a yen":                  {"jpy", 1_500_500_000, 0, true},
		"krónur are counted by hundredths": {"isk", 15_000_000, 1500, false},
		"a part of a króna":                {"isk", 15_500_000, 0, true},
		"thousandths are not expressed":    {"kwd", 10_000_000, 0, true},
		"euros":                            {"eur", 990_000, 99, false},
	} {
		units, err := payment.Units(want.currency, want.micros)
		if (err != nil) != want.refused || units != want.units || want.refused && !errors.Is(err, payment.ErrUnsupported) {
			t.Errorf("%s: %d, %v", name, units, err)
		}
		if want.refused {
			continue
		}
		if back, err := payment.Micros(want.currency, units); err != nil || back != want.micros {
			t.Errorf("%s: comes back as %d, %v", name, back, err)
		}
	}
	if _, err := payment.Micros("jpy", math.MaxInt64/2); !errors.Is(err, money.ErrOverflow) {
		t.Errorf("more yen than the ledger holds: %v", err)
	}
	if _, err := payment.Micros("kwd", 1000); !errors.Is(err, payment.ErrUnsupported) {
		t.Errorf("dinars: %v", err)
	}
}

func TestAPaymentEnds(t *testing.T) {
	ended := 0
	for _, state := range payment.States() {
		if state.Ended() {
			ended++
		}
	}
	if ended != 4 || payment.Open.Ended() || payment.Processing.Ended() {
		t.Errorf("%d states are ends", ended)
	}
}
