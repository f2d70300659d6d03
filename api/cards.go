package api

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/payment"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

type cardBody struct {
	ID          id.Card    `json:"id" pattern:"^card_[a-z2-7]{26}$"`
	TenantID    id.Tenant  `json:"tenant_id" pattern:"^tenant_[a-z2-7]{26}$"`
	AccountID   id.Account `json:"account_id" pattern:"^acct_[a-z2-7]{26}$"`
	UserID      id.User    `json:"user_id" pattern:"^user_[a-z2-7]{26}$" doc:"Who saved it."`
	State       string     `json:"state" enum:"requested,open,saved,expired,leaving,gone"`
	Brand       string     `json:"brand,omitempty"`
	Last4       string     `json:"last4,omitempty" doc:"The last digits of its number; no more of it is known here."`
	ExpMonth    int        `json:"exp_month,omitempty"`
	ExpYear     int        `json:"exp_year,omitempty"`
	CheckoutURL string     `json:"checkout_url,omitempty" doc:"Where it is saved, while that is open."`
	ExpiresAt   *moment    `json:"expires_at,omitempty" doc:"Until when the page is open."`
	SavedAt     *moment    `json:"saved_at,omitempty"`
	CreatedAt   moment     `json:"created_at"`
}

type (
	cardOut      struct{ Body cardBody }
	createCardIn struct {
		IdempotencyKey string `header:"X-Idempotency-Key" required:"true" minLength:"1" maxLength:"255"`
		Body           struct {
			TenantID id.Tenant `json:"tenant_id,omitempty" pattern:"^tenant_[a-z2-7]{26}$"`
			ReturnTo
		}
	}
	deleteCardIn struct {
		Where
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
	}
)

func (s *server) cardOperations() {
	handle(s, "createCard", s.createCard)
	handle(s, "getCard", s.getCard)
	handle(s, "deleteCard", s.deleteCard)
	handle(s, "getAutoTopUp", s.getAutoTopUp)
	handle(s, "putAutoTopUp", s.putAutoTopUp)
}

// createCard starts the card's workflow, whose id derives from the key, and waits until somebody can save it.
func (s *server) createCard(ctx context.Context, in *createCardIn) (*cardOut, error) {
	if len(s.config.WebhookSecrets) == 0 {
		return nil, fault.New(fault.PaymentsDisabled, "")
	}
	who, at := middleware.Principal(ctx), middleware.At(ctx)
	account, err := queries.AccountOfTenant(ctx, s.config.Pool, at.TenantID)
	if err != nil {
		return nil, err
	}
	cardID := deriveID[id.Card](s, string(at.TenantID), string(who.UserID), "createCard", in.IdempotencyKey)
	asked := workflows.OpenCard{
		CardID: cardID, TenantID: at.TenantID, AccountID: account.ID, UserID: who.UserID, Actor: who.Actor(), CorrelationID: telemetry.Correlation(ctx),
	}
	if asked.SuccessURL, asked.CancelURL, err = s.returnPages(in.Body.ReturnTo, "card", string(cardID), "saved"); err != nil {
		return nil, err
	}
	var reply workflows.CardReply
	if err := s.order(ctx, paymentPatience, orderedWorkflow{
		id: workflows.CardWorkflowID(cardID), queue: workflows.PaymentsQueue, kind: workflows.CardType, update: workflows.OpenCardUpdate,
		input: workflows.CardInput{CardID: cardID}, asked: asked, summary: "Card of " + string(account.ID),
	}, &reply); err != nil {
		return nil, err
	}
	if reply.Fault != nil {
		return nil, fromStep(reply.Fault)
	}
	row, err := queries.GetCard(ctx, s.config.Pool, at.TenantID, cardID)
	if err != nil {
		return nil, err
	}
	return &cardOut{Body: renderCard(row)}, nil
}

func renderCard(row queries.Card) cardBody {
	body := cardBody{
		ID: row.ID, TenantID: row.TenantID, AccountID: row.AccountID, UserID: row.UserID, State: string(row.State), Brand: row.Brand, Last4: row.Last4,
		ExpMonth: row.ExpMonth, ExpYear: row.ExpYear, ExpiresAt: maybe(row.ExpiresAt), SavedAt: maybe(row.SavedAt), CreatedAt: moment(row.CreatedAt),
	}
	if row.State == payment.CardOpen {
		body.CheckoutURL = row.CheckoutURL
	}
	return body
}

// getCard shows the card that is saved. Fault: CardNotFound where none is.
func (s *server) getCard(ctx context.Context, _ *Where) (*cardOut, error) {
	account, err := s.accountAt(ctx)
	if err != nil {
		return nil, err
	}
	card, err := queries.SavedCard(ctx, s.config.Pool, middleware.At(ctx).TenantID, account)
	if err != nil {
		return nil, err
	}
	if card == nil {
		return nil, fault.New(fault.CardNotFound, "")
	}
	return &cardOut{Body: renderCard(*card)}, nil
}

// deleteCard has the saved card leave: it is not charged any more from now on, and Stripe is told to forget it, by the sweep where nobody
// else can.
func (s *server) deleteCard(ctx context.Context, _ *deleteCardIn) (*struct{}, error) {
	tenant := middleware.At(ctx).TenantID
	account, err := s.accountAt(ctx)
	if err != nil {
		return nil, err
	}
	var left id.Card
	audit := &queries.Audit{TenantID: string(tenant), Action: "card.delete", TargetType: "card", Details: map[string]any{"account_id": account}}
	err = s.change(ctx, audit, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := queries.LockAccount(ctx, tx, tenant, account); err != nil {
			return err
		}
		card, err := queries.SavedCard(ctx, tx, tenant, account)
		if err != nil {
			return err
		}
		if card == nil {
			return fault.New(fault.CardNotFound, "")
		}
		left, audit.TargetID = card.ID, string(card.ID)
		_, err = queries.DropCard(ctx, tx, tenant, account)
		return err
	})
	if err == nil && left != "" {
		s.tellCard(ctx, left)
	}
	return nil, err
}

func (s *server) tellCard(ctx context.Context, cardID id.Card) {
	ctx, cancel := context.WithTimeout(ctx, beginPatience)
	defer cancel()
	cluster, err := s.temporal()
	if err == nil {
		err = temporal.TellCard(ctx, cluster, cardID, "it leaves")
	}
	if err != nil {
		s.config.Log.WarnContext(ctx, "a card leaves and will be forgotten later", "card_id", string(cardID), "error", err.Error())
	}
}
