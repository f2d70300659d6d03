package workflows

import (
	"time"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/payment"
)

// CardType is the registered name of the Card workflow: one card, while somebody saves it and while the provider is to forget it
// (docs/flows/payments.md).
const CardType = "Card"

// CardWorkflowID is the workflow id of a card.
func CardWorkflowID(cardID id.Card) string { return "card/" + string(cardID) }

// CardInput starts a card's workflow, by whoever wants to save it, by an event about it, or because it leaves.
type CardInput struct {
	CardID id.Card `json:"card_id"`
	// ContinueAfterEvents continues the run as new at this history length; 0 leaves it to the server's suggestion.
	ContinueAfterEvents int `json:"continue_after_events,omitempty"`
}

// OpenCardUpdate takes OpenCard and answers CardReply once somebody can save the card.
const OpenCardUpdate = "open"

// OpenCard asks for a page on which a card is saved. Both URLs are the platform's own.
type OpenCard struct {
	CardID        id.Card        `json:"card_id"`
	TenantID      id.Tenant      `json:"tenant_id"`
	AccountID     id.Account     `json:"account_id"`
	UserID        id.User        `json:"user_id"`
	SuccessURL    string         `json:"success_url"`
	CancelURL     string         `json:"cancel_url"`
	Actor         identity.Actor `json:"actor"`
	CorrelationID string         `json:"correlation_id"`
}

// CardReply is the fault that refused a card, or none.
type CardReply struct {
	Fault *Fault `json:"fault,omitempty"`
}

// CardStanding is how a card stands. State is empty for one that does not exist.
type CardStanding struct {
	State     payment.CardState `json:"state"`
	ExpiresAt time.Time         `json:"expires_at"`
	// LookAgainSeconds is after how long to ask again where no webhook tells.
	LookAgainSeconds int64 `json:"look_again_seconds"`
}

// Steps of Card (queue: payments). A step that calls the provider uses an idempotency key that derives from our id.
var (
	// StepRecordCard writes that somebody wants to save a card, with its audit row; a repeat finds it.
	StepRecordCard = Step[OpenCard, CardStanding]{Name: "cards.record", Queue: PaymentsQueue, StartToClose: 10 * time.Second, Retry: retryAlways}
	// StepOpenCardPage opens the page at the provider and writes it down.
	StepOpenCardPage = Step[OpenCard, CardStanding]{Name: "cards.open_page", Queue: PaymentsQueue, StartToClose: 30 * time.Second, Retry: retryProvider}
	// StepLookCard asks the provider how the card stands and makes it so here: one that was saved takes the place of the one before, and
	// what leaves is forgotten there.
	StepLookCard = Step[CardInput, CardStanding]{Name: "cards.look", Queue: PaymentsQueue, StartToClose: 30 * time.Second, Retry: retryProvider}
)
