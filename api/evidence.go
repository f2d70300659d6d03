package api

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/billing"
	"github.com/gpuaas/gpuaas/domain/evidence"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

type evidenceSignature struct {
	KeyID     string `json:"keyid" doc:"The key, as /api/v1/evidence/keys lists it."`
	Signature string `json:"sig" doc:"Base64 of the Ed25519 signature."`
}

type evidenceEnvelope struct {
	PayloadType string              `json:"payloadType"`
	Payload     string              `json:"payload" doc:"Base64 of the bundle as canonical JSON (RFC 8785)."`
	Signatures  []evidenceSignature `json:"signatures"`
}

type evidenceKeyBody struct {
	KeyID     string `json:"key_id"`
	Algorithm string `json:"algorithm" enum:"ed25519"`
	PublicKey string `json:"public_key" doc:"In PEM form."`
	Current   bool   `json:"current" doc:"Whether it signs now."`
}

type (
	evidenceOut     struct{ Body evidenceEnvelope }
	evidenceKeysOut struct {
		Body struct {
			Items []evidenceKeyBody `json:"items"`
		}
	}
)

// listEvidenceKeys lists every key that evidence was ever signed with; none where the platform signs none.
func (s *server) listEvidenceKeys(context.Context, *struct{}) (*evidenceKeysOut, error) {
	out := &evidenceKeysOut{}
	out.Body.Items = []evidenceKeyBody{}
	if s.config.Evidence == nil {
		return out, nil
	}
	published, err := s.config.Evidence.Published()
	if err != nil {
		return nil, err
	}
	for _, key := range published {
		out.Body.Items = append(out.Body.Items, evidenceKeyBody{KeyID: key.KeyID, Algorithm: "ed25519", PublicKey: key.PEM, Current: key.Current})
	}
	return out, nil
}

// getAllocationEvidence proves an allocation as it stands at one instant of the database.
func (s *server) getAllocationEvidence(ctx context.Context, in *AllocationPath) (*evidenceOut, error) {
	row, err := theAllocation(ctx)
	if err != nil {
		return nil, err
	}
	if s.config.Evidence == nil {
		return nil, fault.New(fault.EvidenceUnavailable, "")
	}
	var bundle evidence.Bundle
	err = pgx.BeginTxFunc(ctx, s.config.Pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		bundle, err = s.evidenceOf(ctx, tx, row.TenantID, in.AllocationID)
		return err
	})
	if err != nil {
		return nil, err
	}
	sealed, err := s.config.Evidence.Seal(ctx, bundle)
	if err != nil {
		return nil, err
	}
	envelope := evidenceEnvelope{PayloadType: sealed.PayloadType, Payload: sealed.Payload}
	for _, signature := range sealed.Signatures {
		envelope.Signatures = append(envelope.Signatures, evidenceSignature{KeyID: signature.KeyID, Signature: signature.Sig})
	}
	return &evidenceOut{Body: envelope}, nil
}

// evidenceOf puts the bundle together from what each domain keeps.
func (s *server) evidenceOf(ctx context.Context, tx pgx.Tx, tenant id.Tenant, allocationID id.Allocation) (evidence.Bundle, error) {
	row, err := queries.GetAllocation(ctx, tx, tenant, allocationID)
	if err != nil {
		return evidence.Bundle{}, err
	}
	bundle := evidence.Bundle{
		Version: evidence.Version, IssuedAt: evidence.Instant(s.now()), Final: row.State.Terminal(), Allocation: provenAllocation(row),
		Transitions: []evidence.Transition{}, Ledger: []evidence.Entry{}, Leases: []evidence.Lease{},
		NodeCertificates: []evidence.NodeCertificate{}, Audit: []evidence.AuditRow{},
	}
	if row.Certificate != nil {
		var stored workflows.ReleaseCertificate
		if err := json.Unmarshal(*row.Certificate, &stored); err != nil {
			return bundle, fmt.Errorf("the release certificate of %s: %w", row.ID, err)
		}
		certificate := evidence.Certificate(stored)
		bundle.Certificate = &certificate
	}
	for _, part := range []func(context.Context, pgx.Tx, queries.Allocation, *evidence.Bundle) error{
		s.provePrice, s.proveHistory, s.proveMoney, s.proveCustody, s.proveAudit,
	} {
		if err := part(ctx, tx, row, &bundle); err != nil {
			return bundle, err
		}
	}
	return bundle, nil
}

func provenAllocation(row queries.Allocation) evidence.Allocation {
	proven := evidence.Allocation{
		ID: row.ID, TenantID: row.TenantID, ProjectID: row.ProjectID, UserID: row.UserID, AccountID: row.AccountID, SKU: row.SKU, Currency: row.Currency,
		PriceID: row.PriceID, RateMicrosPerHour: row.RateMicrosPerHour, WindowSeconds: row.WindowSeconds, WindowsPerSettlement: row.WindowsPerSettlement,
		IsolationModel: row.IsolationModel, RuntimeMode: row.RuntimeMode, State: row.State, RequestedAt: evidence.Instant(row.CreatedAt),
		MeteredFrom: evidence.Maybe(row.MeteredFrom), MeteredTo: evidence.Maybe(row.MeteredTo), EndedAt: evidence.Maybe(row.EndedAt),
		ReleaseCause: text(row.ReleaseCause), FailureCode: row.FailureCode, FailureMessage: row.FailureMessage, CorrelationID: row.CorrelationID,
	}
	if row.NodeID != nil && row.Generation != nil {
		proven.NodeID, proven.Generation = *row.NodeID, *row.Generation
	}
	return proven
}

func (s *server) provePrice(ctx context.Context, tx pgx.Tx, row queries.Allocation, bundle *evidence.Bundle) error {
	price, err := queries.GetPinnedPrice(ctx, tx, row.TenantID, row.PriceID)
	bundle.Price = evidence.Price{
		ID: price.ID, SKU: price.SKU, Currency: price.Currency, RateMicrosPerHour: price.RateMicrosPerHour, ValidFrom: evidence.Instant(price.ValidFrom),
	}
	return err
}

func (s *server) proveHistory(ctx context.Context, tx pgx.Tx, row queries.Allocation, bundle *evidence.Bundle) error {
	transitions, err := queries.ListTransitions(ctx, tx, row.TenantID, row.ID)
	for _, one := range transitions {
		arrow := evidence.Transition{
			Version: one.Version, ToState: one.ToState, At: evidence.Instant(one.At), ActorID: one.ActorID, ActorRole: one.ActorRole,
			Reason: one.Reason, CorrelationID: one.CorrelationID,
		}
		if one.FromState != nil {
			arrow.FromState = *one.FromState
		}
		if one.NodeID != nil {
			arrow.NodeID = *one.NodeID
		}
		bundle.Transitions = append(bundle.Transitions, arrow)
	}
	return err
}

func (s *server) proveMoney(ctx context.Context, tx pgx.Tx, row queries.Allocation, bundle *evidence.Bundle) error {
	transfers, err := queries.TransfersOfAllocation(ctx, tx, row.TenantID, row.AccountID, row.ID)
	if err != nil {
		return err
	}
	var posted *time.Time
	for _, one := range transfers {
		bundle.Ledger = append(bundle.Ledger, evidence.Entry{
			ID: one.ID, Kind: one.Kind, DebitAccountID: one.DebitAccountID, CreditAccountID: one.CreditAccountID, Currency: one.Currency,
			AmountMicros: one.AmountMicros, PeriodStart: evidence.Maybe(one.PeriodStart), PeriodEnd: evidence.Maybe(one.PeriodEnd), CreatedAt: evidence.Instant(one.CreatedAt),
		})
		switch one.Kind {
		case "usage":
			bundle.Totals.UsageMicros += one.AmountMicros
			if posted == nil || one.PeriodEnd.After(*posted) {
				posted = one.PeriodEnd
			}
		case "usage_credit":
			bundle.Totals.UsageCreditMicros += one.AmountMicros
		case "suspension_credit":
			bundle.Totals.SuspendedMicros += one.AmountMicros
		default:
			bundle.Totals.ForgivenMicros += one.AmountMicros
		}
	}
	bundle.Totals.ChargeMicros, err = chargeOf(row, posted)
	return err
}

// chargeOf is what the metered time costs, and while the meter runs, what the time costs that was posted.
func chargeOf(row queries.Allocation, posted *time.Time) (money.Micros, error) {
	end := row.MeteredTo
	if end == nil {
		end = posted
	}
	if row.MeteredFrom == nil || end == nil {
		return 0, nil
	}
	return billing.Charge(row.RateMicrosPerHour, end.Sub(*row.MeteredFrom))
}

func (s *server) proveCustody(ctx context.Context, tx pgx.Tx, row queries.Allocation, bundle *evidence.Bundle) error {
	leases, err := queries.ListLeases(ctx, tx, row.ID)
	if err != nil {
		return err
	}
	for _, one := range leases {
		bundle.Leases = append(bundle.Leases, evidence.Lease{
			NodeID: one.NodeID, Generation: one.Generation, Ordinal: one.Ordinal, ClaimedAt: evidence.Instant(one.ClaimedAt),
			GivenUpAt: evidence.Maybe(one.GivenUpAt), ClosedAt: evidence.Maybe(one.ClosedAt), ClosedBy: text(one.ClosedBy), Evidence: one.Evidence,
		})
		until := s.now()
		if one.ClosedAt != nil {
			until = *one.ClosedAt
		}
		certificates, err := queries.NodeCertificatesWithin(ctx, tx, one.NodeID, one.ClaimedAt, until)
		if err != nil {
			return err
		}
		for _, certificate := range certificates {
			bundle.NodeCertificates = append(bundle.NodeCertificates, evidence.NodeCertificate{
				NodeID: certificate.NodeID, Serial: certificate.Serial, NotBefore: evidence.Instant(certificate.NotBefore), NotAfter: evidence.Instant(certificate.NotAfter),
			})
		}
	}
	return nil
}

func (s *server) proveAudit(ctx context.Context, tx pgx.Tx, row queries.Allocation, bundle *evidence.Bundle) error {
	rows, err := queries.AuditOfTarget(ctx, tx, row.TenantID, "allocation", string(row.ID))
	for _, one := range rows {
		bundle.Audit = append(bundle.Audit, evidence.AuditRow{
			ID: one.ID, ActorUserID: one.ActorUserID, ActorRole: one.ActorRole, Action: one.Action, Result: one.Result,
			Details: one.Details, CorrelationID: one.CorrelationID, CreatedAt: evidence.Instant(one.CreatedAt),
		})
	}
	return err
}
