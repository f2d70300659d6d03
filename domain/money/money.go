// Package money holds amounts as integers with their unit in the name: micros are millionths of a
// currency, minor units are its hundredths. A leaf: standard library only.
package money

import (
	"errors"
	"math"
	"math/bits"
)

// Micros is an amount in millionths of a currency.
type Micros int64

// MicrosPerMinor is how many micros one minor unit (cent) holds.
const MicrosPerMinor = 10_000

// MaxSafe is the largest amount JSON readers hold exactly (2^53 − 1 micros, some nine thousand million of a currency).
const MaxSafe Micros = 1<<53 - 1

// ErrOverflow says that an amount does not fit its integer.
var ErrOverflow = errors.New("the amount does not fit 64 bits")

// FromMinor converts minor units to micros; ErrOverflow beyond 64 bits.
func FromMinor(minor int64) (Micros, error) {
	if minor > math.MaxInt64/MicrosPerMinor || minor < math.MinInt64/MicrosPerMinor {
		return 0, ErrOverflow
	}
	return Micros(minor * MicrosPerMinor), nil
}

// Minor is the amount in whole minor units, rounded toward minus infinity: a balance is never shown
// larger than it is.
func (m Micros) Minor() int64 {
	quotient := int64(m) / MicrosPerMinor
	if int64(m)%MicrosPerMinor < 0 {
		quotient--
	}
	return quotient
}

// MulDivFloor is floor(a × b / divisor) with a 128-bit product; all three must not be negative and
// divisor must be positive. ErrOverflow when the quotient exceeds 63 bits or an argument is out of range.
func MulDivFloor(a, b, divisor int64) (int64, error) {
	if a < 0 || b < 0 || divisor <= 0 {
		return 0, ErrOverflow
	}
	high, low := bits.Mul64(uint64(a), uint64(b))
	if high >= uint64(divisor) {
		return 0, ErrOverflow
	}
	quotient, _ := bits.Div64(high, low, uint64(divisor))
	if quotient > math.MaxInt64 {
		return 0, ErrOverflow
	}
	return int64(quotient), nil
}
