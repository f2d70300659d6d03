package activities

import (
	"fmt"
	"time"

	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// fundsEvent is the payload of the ladder's three events; asyncapi names the same fields.
type fundsEvent struct {
	TenantID          id.Tenant    `json:"tenant_id"`
	AccountID         id.Account   `json:"account_id"`
	Currency          string       `json:"currency"`
	Crossing          int64        `json:"crossing"`
	At                time.Time    `json:"at"`
	Deadline          *time.Time   `json:"deadline,omitempty"`
	AvailableMicros   money.Micros `json:"available_micros"`
	ThresholdMicros   money.Micros `json:"threshold_micros"`
	RateMicrosPerHour money.Micros `json:"rate_micros_per_hour"`
	LateMS            int64        `json:"late_ms"`
	WrittenOffMicros  money.Micros `json:"written_off_micros"`
	Message           string       `json:"message"`
	AllocationCount   int          `json:"allocation_count"`
	// Allocations are the first of those that end with the money.
	Allocations []fundsEventAllocation `json:"allocations"`
}

type fundsEventAllocation struct {
	AllocationID id.Allocation `json:"allocation_id"`
	ProjectID    id.Project    `json:"project_id"`
	UserID       id.User       `json:"user_id"`
	Name         string        `json:"name"`
	SKU          id.SKU        `json:"sku"`
	// Message says what is lost, and when.
	Message string `json:"message"`
}

// announcedAllocations bounds the list in one event: a message bus takes no message of any length.
const announcedAllocations = 100

var fundsEventTypes = map[billing.Rung]event.Type{
	billing.LowBalance:         event.BillingLowBalanceWarning,
	billing.AutoReleasePending: event.BillingAutoReleasePending,
	billing.Depleted:           event.BillingBalanceDepleted,
}

// event is the event of a rung that was reached, once for its crossing.
func (r *fundsReview) event(crossing billing.Crossing) queries.Event {
	ending := r.ending()
	payload := fundsEvent{
		TenantID: r.in.TenantID, AccountID: r.in.AccountID, Currency: r.currency, Crossing: crossing.Number, At: crossing.At, Deadline: crossing.Deadline,
		AvailableMicros: r.verdict.AvailableMicros, ThresholdMicros: r.ladder.ThresholdMicros, RateMicrosPerHour: r.rate,
		LateMS: crossing.Late.Milliseconds(), WrittenOffMicros: crossing.WrittenOffMicros,
		Message: r.sentence(crossing, len(ending)), AllocationCount: len(ending), Allocations: []fundsEventAllocation{},
	}
	for _, held := range ending[:min(len(ending), announcedAllocations)] {
		payload.Allocations = append(payload.Allocations, fundsEventAllocation{
			AllocationID: held.ID, ProjectID: held.ProjectID, UserID: held.UserID, Name: held.Name, SKU: held.SKU,
			Message: loss(held, crossing.Rung == billing.Depleted, r.verdict.ZeroAt, "the balance"),
		})
	}
	return queries.Event{
		Type: fundsEventTypes[crossing.Rung], Fact: fmt.Sprintf("%s/%s/%d", r.in.AccountID, crossing.Rung, crossing.Number),
		AggregateID: string(r.in.AccountID), OccurredAt: r.now, CorrelationID: r.in.CorrelationID, Payload: payload,
	}
}

// sentence tells a person what the rung means, and what to do.
func (r *fundsReview) sentence(crossing billing.Crossing, ending int) string {
	left := amount(r.verdict.AvailableMicros, r.currency)
	switch {
	case crossing.Rung == billing.Depleted:
		return fmt.Sprintf("The balance was used up at %s. %s released, and everything on the nodes is being deleted. Nothing is charged for the time after.",
			people(crossing.At), counted(ending, "allocation is being", "allocations are being"))
	case crossing.Rung == billing.AutoReleasePending:
		return fmt.Sprintf("The balance of %s is used up at %s. Then %s released, and everything on the nodes is deleted and cannot be brought back. "+
			"Add funds before then to keep what runs.", left, people(*crossing.Deadline), counted(ending, "allocation is", "allocations are"))
	case r.verdict.ZeroAt != nil:
		return fmt.Sprintf("The balance is down to %s and is used up at %s if nothing changes. Add funds to keep what runs.", left, people(*r.verdict.ZeroAt))
	default:
		return fmt.Sprintf("The balance is down to %s.", left)
	}
}

// loss tells a person what of an allocation is lost, and when; used is what is used up then.
func loss(held queries.FundedAllocation, already bool, at *time.Time, used string) string {
	name := held.Name
	if name == "" {
		name = string(held.ID)
	}
	what := fmt.Sprintf("%s (%s): all files, programs and logins on its node are", name, held.SKU)
	switch {
	case already:
		return what + " being deleted."
	case at != nil:
		return fmt.Sprintf("%s deleted at %s.", what, people(*at))
	default:
		return what + " deleted when " + used + " is used up."
	}
}

func people(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func counted(n int, singular, plural string) string {
	if n == 1 {
		return "1 " + singular
	}
	return fmt.Sprintf("%d %s", n, plural)
}

// amount writes micros as people read money.
func amount(micros money.Micros, currency string) string { return micros.Text(currency) }
