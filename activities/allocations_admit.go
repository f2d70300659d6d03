package activities

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// AdmitOperation is the operation that admissions are recorded under in idempotency_records. Admit alone writes them.
const AdmitOperation = "allocation.create"

// firstOrdinal counts an allocation's claims of nodes.
const firstOrdinal = 1

// Admit decides one request in one transaction: it admits, writing everything an allocation begins with, or refuses,
// writing its idempotency record and nothing else. Both answers replay. The answer carries its fault; an error means
// that nothing was decided.
func (a *Allocations) Admit(ctx context.Context, in workflows.AdmitRequest) (workflows.AdmitReply, error) {
	var reply workflows.AdmitReply
	err := store.InTx(ctx, a.Pool, func(ctx context.Context, tx pgx.Tx) error {
		admission := admission{in: in, tx: tx, now: milliseconds(a.Now())}
		var err error
		reply, err = admission.answer(ctx)
		return err
	})
	var undecided undecidedError
	if errors.As(err, &undecided) {
		return refusal(in, undecided.fault, milliseconds(a.Now()))
	}
	return reply, err
}

// undecidedError rolls the transaction back: the request is refused this time and its key stays unused.
type undecidedError struct{ fault *fault.Error }

func (e undecidedError) Error() string { return e.fault.Error() }

// admission is one request being decided.
type admission struct {
	in  workflows.AdmitRequest
	tx  pgx.Tx
	now time.Time
}

func (a admission) key() queries.IdempotencyKey {
	return queries.IdempotencyKey{TenantID: a.in.Principal.TenantID, PrincipalID: string(a.in.Principal.UserID), Operation: AdmitOperation, Key: a.in.IdempotencyKey}
}

func (a admission) answer(ctx context.Context) (workflows.AdmitReply, error) {
	values, err := policy.ReadForTenant(ctx, a.tx, a.in.Principal.TenantID)
	if err != nil {
		return workflows.AdmitReply{}, err
	}
	retention := time.Duration(values.Int(authored.IdempotencyRetentionHours)) * time.Hour
	fresh, err := queries.ClaimIdempotency(ctx, a.tx, a.key(), a.in.RequestHash, a.now, a.now, a.now.Add(retention))
	if err != nil {
		return workflows.AdmitReply{}, err
	}
	if !fresh {
		return a.replay(ctx)
	}
	if !a.in.AdmitBefore.IsZero() && !a.now.Before(a.in.AdmitBefore) {
		return workflows.AdmitReply{}, undecidedError{fault.New(fault.AllocationAdmissionExpired, "")}
	}
	// The id derives from the key, so an allocation without a record is one whose record outlived its retention.
	used, err := queries.AllocationExists(ctx, a.tx, a.in.Principal.TenantID, a.in.AllocationID)
	if err != nil {
		return workflows.AdmitReply{}, err
	}
	if used {
		return workflows.AdmitReply{}, undecidedError{fault.New(fault.IdempotencyConflict, "This X-Idempotency-Key was used longer ago than answers are kept.")}
	}

	reply, err := a.decide(ctx, values)
	var refused *fault.Error
	if errors.As(err, &refused) {
		reply, err = refusal(a.in, refused, a.now)
	}
	if err != nil {
		return workflows.AdmitReply{}, err
	}
	return reply, a.remember(ctx, reply)
}

// replay gives the stored answer of the key, or the conflict when the body was another.
func (a admission) replay(ctx context.Context) (workflows.AdmitReply, error) {
	record, err := queries.GetIdempotency(ctx, a.tx, a.key())
	if err != nil {
		return workflows.AdmitReply{}, err
	}
	if !bytes.Equal(record.RequestHash, a.in.RequestHash) {
		return refusal(a.in, fault.New(fault.IdempotencyConflict, ""), a.now)
	}
	var stored workflows.AdmitReply
	if err := json.Unmarshal(record.Answer, &stored); err != nil {
		return workflows.AdmitReply{}, fmt.Errorf("the stored answer of %s: %w", a.in.AllocationID, err)
	}
	// The step itself, run again after its answer was lost, is the same request and no replay.
	stored.Replayed = stored.CorrelationID != a.in.CorrelationID
	return stored, nil
}

func (a admission) remember(ctx context.Context, reply workflows.AdmitReply) error {
	status := http.StatusCreated
	if reply.Fault != nil {
		status = fault.Code(reply.Fault.Code).HTTPStatus()
	}
	body, err := json.Marshal(reply)
	if err != nil {
		return fmt.Errorf("the answer of %s: %w", a.in.AllocationID, err)
	}
	finished, err := queries.FinishIdempotency(ctx, a.tx, a.key(), status, nil, body)
	if err == nil && !finished {
		err = fmt.Errorf("the idempotency record of %s is gone", a.in.AllocationID)
	}
	return err
}

// decide checks every rule of admission and then writes. A *fault.Error is a refusal, and nothing was written then.
func (a admission) decide(ctx context.Context, values policy.Values) (workflows.AdmitReply, error) {
	isolation, err := isolationModel(values)
	if err != nil {
		return workflows.AdmitReply{}, err
	}
	if err := a.withinUserLimit(ctx, values.Int(authored.AllocationMaxConcurrentPerUser)); err != nil {
		return workflows.AdmitReply{}, err
	}
	account, err := queries.LockAccount(ctx, a.tx, a.in.Principal.TenantID, a.in.Principal.AccountID)
	if err != nil {
		return workflows.AdmitReply{}, orFault(err, fault.AccountNotFound)
	}
	if err := a.withinTenantLimit(ctx, values.Int(authored.AllocationMaxConcurrentPerTenant)); err != nil {
		return workflows.AdmitReply{}, err
	}
	if err := a.inGoodStanding(ctx); err != nil {
		return workflows.AdmitReply{}, err
	}
	if err := a.inOpenProject(ctx); err != nil {
		return workflows.AdmitReply{}, err
	}
	if err := a.undisputed(ctx, account.ID); err != nil {
		return workflows.AdmitReply{}, err
	}
	sku, price, err := a.offer(ctx, account.Currency)
	if err != nil {
		return workflows.AdmitReply{}, err
	}
	if err := a.coversRunway(ctx, account, price, values.Seconds(authored.BillingRunwaySeconds)); err != nil {
		return workflows.AdmitReply{}, err
	}
	if err := a.withinBudget(ctx, account, price, values.Seconds(authored.BillingRunwaySeconds)); err != nil {
		return workflows.AdmitReply{}, err
	}
	lease, err := queries.ClaimNode(ctx, a.tx, sku.ID, a.in.AllocationID, firstOrdinal, nil)
	if err != nil {
		return workflows.AdmitReply{}, err
	}
	if lease == nil {
		return workflows.AdmitReply{}, fault.Newf(fault.SKUUnavailable, "No healthy node of %s is free.", sku.ID).With(map[string]any{"sku": sku.ID})
	}
	terms := workflows.Terms{
		TenantID: a.in.Principal.TenantID, ProjectID: a.in.ProjectID, UserID: a.in.Principal.UserID, AccountID: account.ID,
		Currency: account.Currency, SKU: sku.ID, GPUModel: sku.GPUModel, GPUCount: sku.GPUCount,
		PriceID: price.ID, RateMicrosPerHour: price.RateMicrosPerHour,
		WindowSeconds: values.Int(authored.BillingWindowSeconds), WindowsPerSettlement: values.Int(authored.BillingWindowsPerSettlement),
		SpendingLimit: a.in.SpendingLimit,
		RuntimeMode:   values.String(authored.ProvisioningRuntimeMode), IsolationModel: isolation,
		SSHKeys: a.in.SSHKeys, CorrelationID: a.in.CorrelationID, Lease: *lease,
	}
	return workflows.AdmitReply{
		Admitted: true, OwnerRunID: a.in.RunID, Terms: &terms, CreatedAt: a.now, CorrelationID: a.in.CorrelationID,
	}, a.write(ctx, terms)
}

// isolationByUser is the isolation model that can be carried out on a running operating system.
const isolationByUser = "user-revoke"

// isolationModel is the model in force, refused where nothing could carry it out: a claimed node would only be
// quarantined for it.
func isolationModel(values policy.Values) (string, error) {
	isolation := values.String(authored.AllocationIsolationModel)
	switch {
	case isolation == isolationByUser:
		return isolation, nil
	case !values.Bool(authored.MAASEnabled):
		return "", fault.New(fault.IsolationModelUnavailable, "")
	default:
		return "", fault.Newf(fault.IsolationModelUnavailable, "No machine driver that could carry out %s is connected to this installation.", isolation)
	}
}

// withinUserLimit counts under the user's lock, so that two admissions of one user take turns.
func (a admission) withinUserLimit(ctx context.Context, limit int64) error {
	tenant, user := a.in.Principal.TenantID, a.in.Principal.UserID
	status, err := queries.LockUser(ctx, a.tx, tenant, user)
	switch {
	case err != nil:
		return orFault(err, fault.UserNotFound)
	case status == queries.UserSuspended:
		return fault.New(fault.UserSuspended, "")
	}
	held, err := queries.CountAgainstLimit(ctx, a.tx, tenant, user)
	if err != nil {
		return err
	}
	if held >= limit {
		return fault.Newf(fault.AllocationConcurrencyLimit, "You hold %d allocations; your limit is %d.", held, limit).
			With(map[string]any{"limit": limit, "held": held})
	}
	return nil
}

// withinTenantLimit counts under the lock of the tenant's account, so that two admissions of one tenant take turns.
func (a admission) withinTenantLimit(ctx context.Context, limit int64) error {
	held, err := queries.CountOfTenant(ctx, a.tx, a.in.Principal.TenantID)
	if err != nil {
		return err
	}
	if held >= limit {
		return fault.Newf(fault.AllocationConcurrencyLimit, "Your organisation holds %d allocations; its limit is %d.", held, limit).
			With(map[string]any{"limit": limit, "held": held, "of": "tenant"})
	}
	return nil
}

// inGoodStanding holds the tenant against being suspended until the admission is decided: a suspension finds every
// allocation that was admitted before it.
func (a admission) inGoodStanding(ctx context.Context) error {
	status, err := queries.ShareTenant(ctx, a.tx, a.in.Principal.TenantID)
	switch {
	case err != nil:
		return orFault(err, fault.TenantNotFound)
	case status == queries.TenantClosed:
		return fault.New(fault.TenantClosed, "")
	case status != queries.TenantActive:
		return fault.New(fault.TenantSuspended, "")
	default:
		return nil
	}
}

// undisputed refuses while a payment into the account is disputed: what is launched might never be paid. A dispute takes turns with
// admissions at the account's lock.
func (a admission) undisputed(ctx context.Context, account id.Account) error {
	disputed, err := queries.Disputed(ctx, a.tx, a.in.Principal.TenantID, account)
	if err == nil && disputed {
		err = fault.New(fault.PaymentDisputed, "")
	}
	return err
}

// inOpenProject holds the project against being archived until the admission is decided.
func (a admission) inOpenProject(ctx context.Context) error {
	project, err := queries.HoldProject(ctx, a.tx, a.in.Principal.TenantID, a.in.ProjectID)
	switch {
	case err != nil:
		return orFault(err, fault.ProjectNotFound)
	case project.ArchivedAt != nil:
		return fault.New(fault.ProjectArchived, "")
	default:
		return nil
	}
}

// offer finds the SKU and the price that is valid now for the tenant in the account's currency.
func (a admission) offer(ctx context.Context, currency string) (queries.SKU, queries.Price, error) {
	sku, err := queries.GetSKU(ctx, a.tx, a.in.SKU)
	if err != nil {
		return sku, queries.Price{}, orFault(err, fault.SKUNotFound)
	}
	if !sku.Offered {
		return sku, queries.Price{}, fault.Newf(fault.SKUUnavailable, "%s is no longer offered.", sku.ID).With(map[string]any{"sku": sku.ID})
	}
	price, err := queries.PriceAt(ctx, a.tx, a.in.Principal.TenantID, sku.ID, currency, a.now)
	return sku, price, orFault(err, fault.SKUPriceMissing)
}

// write puts down everything an admitted allocation begins with.
func (a admission) write(ctx context.Context, terms workflows.Terms) error {
	if err := queries.InsertAllocation(ctx, a.tx, queries.NewAllocation{
		ID: a.in.AllocationID, TenantID: terms.TenantID, ProjectID: terms.ProjectID, UserID: terms.UserID, AccountID: terms.AccountID,
		Currency: terms.Currency, Name: a.in.Name, Labels: a.in.Labels, SSHKeys: terms.SSHKeys, SKU: terms.SKU, PriceID: terms.PriceID,
		RateMicrosPerHour: terms.RateMicrosPerHour, WindowSeconds: terms.WindowSeconds, WindowsPerSettlement: terms.WindowsPerSettlement,
		MaxSpendMicros: positive(terms.MaxSpendMicros), MaxDurationSeconds: positive(terms.MaxDurationSeconds),
		RuntimeMode: terms.RuntimeMode, IsolationModel: terms.IsolationModel, Lease: terms.Lease,
		CorrelationID: terms.CorrelationID, OwnerRunID: a.in.RunID, CreatedAt: a.now,
	}); err != nil {
		return err
	}
	actor := a.in.Principal.Actor()
	if err := queries.InsertTransition(ctx, a.tx, terms.TenantID, a.in.AllocationID, actor, queries.AllocationTransition{
		Version: 1, ToState: allocation.Requested, At: a.now, NodeID: &terms.Lease.NodeID, Reason: "admitted", CorrelationID: terms.CorrelationID,
	}); err != nil {
		return err
	}
	if err := queries.InsertAudit(ctx, a.tx, queries.Audit{
		TenantID: string(terms.TenantID), Actor: actor, Action: AdmitOperation, TargetType: "allocation", TargetID: string(a.in.AllocationID),
		CorrelationID: terms.CorrelationID, Details: map[string]any{"sku": terms.SKU, "node_id": terms.Lease.NodeID, "generation": terms.Lease.Generation, "price_id": terms.PriceID},
	}); err != nil {
		return err
	}
	return queries.InsertOutbox(ctx, a.tx, queries.Event{
		Type: event.ProvisioningRequested, Fact: fact(a.in.AllocationID, 1), AggregateID: string(a.in.AllocationID),
		OccurredAt: a.now, CorrelationID: terms.CorrelationID,
		Payload: allocationEvent{
			AllocationID: a.in.AllocationID, TenantID: terms.TenantID, ProjectID: terms.ProjectID, UserID: terms.UserID, AccountID: terms.AccountID,
			SKU: terms.SKU, State: allocation.Requested, Version: 1, NodeID: &terms.Lease.NodeID,
		},
	})
}

// positive is what a column holds where zero means none.
func positive[N ~int64](value N) *N {
	if value <= 0 {
		return nil
	}
	return &value
}

// refusal is the answer that carries a fault.
func refusal(in workflows.AdmitRequest, refused *fault.Error, now time.Time) (workflows.AdmitReply, error) {
	asFault, err := crossing(refused)
	return workflows.AdmitReply{Fault: asFault, CreatedAt: now, CorrelationID: in.CorrelationID}, err
}

// crossing is a fault as it crosses Temporal inside an answer.
func crossing(refused *fault.Error) (*workflows.Fault, error) {
	details, err := json.Marshal(refused.Details)
	if err != nil {
		return nil, fmt.Errorf("the details of %s: %w", string(refused.Code), err)
	}
	if len(refused.Details) == 0 {
		details = nil
	}
	return &workflows.Fault{Code: string(refused.Code), Message: refused.Message, Details: details}, nil
}

// orFault turns "no such row" into the fault that says what is missing.
func orFault(err error, missing fault.Code) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return fault.New(missing, "")
	}
	return err
}

// fact names a transition once for ever; the event's id derives from it.
func fact[ID ~string](aggregate ID, version int64) string {
	return fmt.Sprintf("%s/transition/%d", aggregate, version)
}
