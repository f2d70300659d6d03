// Package payment says what a payment, a refund, a dispute and a saved card can be, and how an amount is counted by the payment provider. It
// imports money and the standard library.
package payment

import (
	"errors"
	"fmt"
	"slices"

	"github.com/gpuaas/gpuaas/domain/money"
)

// State is how a payment stands.
type State string

// The states of a payment. A payment that was made is credited from whatever state, because it is a fact.
const (
	// Requested was asked for and the provider does not know it yet.
	Requested State = "requested"
	// Open waits for somebody to pay.
	Open State = "open"
	// Processing was ordered by a method that settles later.
	Processing State = "processing"
	// Credited is in the ledger.
	Credited State = "credited"
	// Failed was refused by the provider or a bank.
	Failed State = "failed"
	// Expired was not paid in time.
	Expired State = "expired"
	// Held was paid and does not fit what was asked for: an operator has to look.
	Held State = "held"
)

// States lists them.
func States() []State {
	return []State{Requested, Open, Processing, Credited, Failed, Expired, Held}
}

// Ended says whether nothing more is expected of a payment.
func (s State) Ended() bool { return slices.Contains([]State{Credited, Failed, Expired, Held}, s) }

// RefundState is how a refund stands.
type RefundState string

// The states of a refund. One that succeeded fails after all when the customer's bank sends the money back.
const (
	RefundPending   RefundState = "pending"
	RefundSucceeded RefundState = "succeeded"
	RefundFailed    RefundState = "failed"
)

// DisputeState is how a dispute stands.
type DisputeState string

// The states of a dispute.
const (
	DisputeOpen DisputeState = "open"
	DisputeWon  DisputeState = "won"
	DisputeLost DisputeState = "lost"
)

// CardState is how a saved card stands.
type CardState string

// The states of a card. One that leaves is not charged any more, and is gone once the provider has forgotten it.
const (
	CardRequested CardState = "requested"
	CardOpen      CardState = "open"
	CardSaved     CardState = "saved"
	CardExpired   CardState = "expired"
	CardLeaving   CardState = "leaving"
	CardGone      CardState = "gone"
)

// Ended says whether nothing more is expected of a card by itself.
func (s CardState) Ended() bool {
	return slices.Contains([]CardState{CardSaved, CardExpired, CardGone}, s)
}

// ErrUnsupported says that an amount cannot be charged in its currency.
var ErrUnsupported = errors.New("the amount cannot be charged in this currency")

// wholeOnly are currencies without a smaller unit: the provider counts them in whole units.
var wholeOnly = []string{"bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"}

// wholeByHundreds are counted in hundredths although there are none.
var wholeByHundreds = []string{"isk", "ugx"}

// thousandths are currencies whose smallest unit is a thousandth, which our minor units do not express.
var thousandths = []string{"bhd", "jod", "kwd", "omr", "tnd"}

const microsPerUnit = 1_000_000

// Units is an amount as the provider counts it, in the currency's smallest unit; ErrUnsupported where it would not be exact.
func Units(currency string, amount money.Micros) (int64, error) {
	each := int64(money.MicrosPerMinor)
	switch {
	case slices.Contains(thousandths, currency):
		return 0, fmt.Errorf("%w: %s is divided into thousandths", ErrUnsupported, currency)
	case slices.Contains(wholeOnly, currency):
		each = microsPerUnit
	case slices.Contains(wholeByHundreds, currency) && int64(amount)%microsPerUnit != 0:
		return 0, fmt.Errorf("%w: %s has no smaller unit than one", ErrUnsupported, currency)
	}
	if int64(amount)%each != 0 {
		return 0, fmt.Errorf("%w: %d micros are no whole number of the smallest unit of %s", ErrUnsupported, amount, currency)
	}
	return int64(amount) / each, nil
}

// Micros is an amount that the provider counted; ErrUnsupported in a currency that is not charged, money.ErrOverflow beyond 64 bits.
func Micros(currency string, units int64) (money.Micros, error) {
	switch {
	case slices.Contains(thousandths, currency):
		return 0, fmt.Errorf("%w: %s is divided into thousandths", ErrUnsupported, currency)
	case slices.Contains(wholeOnly, currency):
		const minorPerUnit = microsPerUnit / money.MicrosPerMinor
		if minor := units * minorPerUnit; minor/minorPerUnit == units {
			return money.FromMinor(minor)
		}
		return 0, money.ErrOverflow
	default:
		return money.FromMinor(units)
	}
}
