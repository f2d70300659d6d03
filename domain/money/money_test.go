package money_test

import (
	"errors"
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/gpuaas/gpuaas/domain/money"
)

func TestMulDivFloorAgreesWithUnboundedIntegers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Int64().Draw(t, "a"), rapid.Int64().Draw(t, "b")
		divisor := rapid.Int64().Draw(t, "divisor")
		got, err := money.MulDivFloor(a, b, divisor)
		if a < 0 || b < 0 || divisor <= 0 {
			if !errors.Is(err, money.ErrOverflow) {
				t.Fatalf("arguments out of range gave %d, error %v", got, err)
			}
			return
		}
		want := new(big.Int).Mul(big.NewInt(a), big.NewInt(b))
		want.Div(want, big.NewInt(divisor))
		if !want.IsInt64() {
			if !errors.Is(err, money.ErrOverflow) {
				t.Fatalf("%s does not fit, yet the answer is %d, error %v", want, got, err)
			}
			return
		}
		if err != nil || got != want.Int64() {
			t.Fatalf("answer %d, error %v, want %s", got, err, want)
		}
	})
}

func TestMinorNeverShowsMoreThanThereIs(t *testing.T) {
	for micros, want := range map[money.Micros]int64{0: 0, 9_999: 0, 10_000: 1, -1: -1, -10_000: -1, -10_001: -2, math.MaxInt64: 922337203685477} {
		if got := micros.Minor(); got != want {
			t.Errorf("%d micros are shown as %d minor units, want %d", micros, got, want)
		}
	}
}

func TestFromMinorIsExactOrRefuses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		minor := rapid.Int64().Draw(t, "minor")
		want := new(big.Int).Mul(big.NewInt(minor), big.NewInt(money.MicrosPerMinor))
		got, err := money.FromMinor(minor)
		if !want.IsInt64() {
			if !errors.Is(err, money.ErrOverflow) {
				t.Fatalf("%d minor units gave %d, error %v", minor, got, err)
			}
			return
		}
		if err != nil || int64(got) != want.Int64() || got.Minor() != minor {
			t.Fatalf("%d minor units are %d micros, error %v", minor, got, err)
		}
	})
}

func TestExactRoundsNothing(t *testing.T) {
	for micros, want := range map[money.Micros]string{
		0: "0.00 usd", 1: "0.000001 usd", 500_000: "0.50 usd", 12_345_678: "12.345678 usd", 23_920_000: "23.92 usd", 1_230_000_000: "1230.00 usd",
		-41_806: "-0.041806 usd", -1_000_000: "-1.00 usd", math.MaxInt64: "9223372036854.775807 usd", math.MinInt64: "-9223372036854.775808 usd",
	} {
		if got := micros.Exact("usd"); got != want {
			t.Errorf("%d micros are written %q, not %q", int64(micros), got, want)
		}
	}
}
