package api

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jackc/pgx/v5"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	sdk "go.temporal.io/sdk/temporal"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// admitOperation is the operation under which the step of admission keeps its answers.
const admitOperation = "allocation.create"

// LongestAnswer is how long a handler may take at most: the program cuts the connection a little later, and a caller who is cut
// off learns less than one who is told to ask again.
const LongestAnswer = 80 * time.Second

const (
	longestLabel  = 63
	longestSSHKey = 8192
)

type labelValue string

// Schema bounds a label's value.
func (labelValue) Schema(huma.Registry) *huma.Schema {
	longest := longestLabel
	return &huma.Schema{Type: huma.TypeString, MaxLength: &longest}
}

type publicKey string

// Schema bounds a public key before it is parsed.
func (publicKey) Schema(huma.Registry) *huma.Schema {
	shortest, longest := 1, longestSSHKey
	return &huma.Schema{Type: huma.TypeString, MinLength: &shortest, MaxLength: &longest}
}

type createAllocationBody struct {
	SKU             id.SKU                `json:"sku" pattern:"^[a-z0-9][a-z0-9-]{0,62}$"`
	Name            string                `json:"name,omitempty" minLength:"1" maxLength:"63" doc:"The SKU's slug when absent."`
	Labels          map[string]labelValue `json:"labels,omitempty"`
	SSHKeys         []publicKey           `json:"ssh_keys,omitempty" maxItems:"100"`
	SSHKeyIDs       []id.SSHKey           `json:"ssh_key_ids,omitempty" maxItems:"100" doc:"Keys that the project keeps, beside those of ssh_keys."`
	ProjectID       id.Project            `json:"project_id,omitempty" pattern:"^proj_[a-z2-7]{26}$" doc:"The default project when absent."`
	MaxSpendMinor   int64                 `json:"max_spend_minor,omitempty" minimum:"1" maximum:"900000000000" doc:"Its bill never exceeds this, in minor units of the currency: it is released at the last millisecond that this pays for."`
	MaxDurationSecs int64                 `json:"max_duration_seconds,omitempty" minimum:"1" maximum:"315360000" doc:"It is released this long after its meter started, at the latest."`
}

type createAllocationIn struct {
	IdempotencyKey string `header:"X-Idempotency-Key" required:"true" minLength:"1" maxLength:"255"`
	Body           createAllocationBody
}

type createdAllocation struct {
	Location string `header:"Location" doc:"Where the allocation is read." required:"true"`
	Body     allocationBody
}

// createAllocation admits or refuses at once. Postgres answers a repeat; otherwise one update-with-start does.
func (s *server) createAllocation(ctx context.Context, in *createAllocationIn) (*createdAllocation, error) {
	request, err := s.admitRequest(ctx, in)
	if err != nil {
		return nil, err
	}
	reply, known, err := s.storedAdmission(ctx, request)
	if err != nil {
		return nil, err
	}
	if !known {
		// Only now: a repeat is answered as before, although a key may be forgotten meanwhile.
		if request.SSHKeys, err = s.keysByID(ctx, request.SSHKeys, in.Body.SSHKeyIDs); err != nil {
			return nil, err
		}
		if reply, err = s.admit(ctx, request); err != nil {
			return nil, err
		}
	}
	replayed := known || reply.Replayed || (reply.CorrelationID != "" && reply.CorrelationID != request.CorrelationID)
	if replayed {
		middleware.MarkReplayed(ctx)
	}
	if reply.Fault != nil {
		return nil, fromStep(reply.Fault)
	}
	if reply.Terms == nil {
		return nil, fault.New(fault.InternalError, "")
	}
	return &createdAllocation{Location: "/api/v1/allocations/" + string(request.AllocationID), Body: renderAdmitted(request, reply)}, nil
}

// admitRequest checks what was asked and who asks, and names the allocation after the request.
func (s *server) admitRequest(ctx context.Context, in *createAllocationIn) (workflows.AdmitRequest, error) {
	who, at := middleware.Principal(ctx), middleware.At(ctx)
	// The tenant of the project pays, which need not be the one that the caller is at home in.
	who.TenantID, who.ProjectID, who.AccountID = at.TenantID, at.ProjectID, at.AccountID
	values, err := s.config.Policy.Values(ctx)
	if err != nil {
		return workflows.AdmitRequest{}, err
	}
	request := workflows.AdmitRequest{
		AllocationID: deriveID[id.Allocation](s, string(who.TenantID), string(who.UserID), admitOperation, in.IdempotencyKey),
		Principal:    who, ProjectID: at.ProjectID, SKU: in.Body.SKU, Name: in.Body.Name,
		IdempotencyKey: in.IdempotencyKey, RequestHash: middleware.RequestHash(ctx), CorrelationID: telemetry.Correlation(ctx),
	}
	spend, err := money.FromMinor(in.Body.MaxSpendMinor)
	if err != nil {
		return request, fault.New(fault.AmountOutOfRange, "")
	}
	request.SpendingLimit = workflows.SpendingLimit{MaxSpendMicros: spend, MaxDurationSeconds: in.Body.MaxDurationSecs}
	if request.Name == "" {
		request.Name = string(in.Body.SKU)
	}
	if err := checkName(request.Name); err != nil {
		return request, err
	}
	if request.Labels, err = checkLabels(in.Body.Labels, values.Int(authored.AllocationMaxLabels)); err != nil {
		return request, err
	}
	if request.SSHKeys, err = checkSSHKeys(in.Body.SSHKeys, values.Int(authored.AllocationMaxSSHKeys)); err != nil {
		return request, err
	}
	return request, nil
}

// storedAdmission is the answer that this key got before, if any.
func (s *server) storedAdmission(ctx context.Context, request workflows.AdmitRequest) (workflows.AdmitReply, bool, error) {
	var reply workflows.AdmitReply
	record, err := queries.GetIdempotency(ctx, s.config.Pool, queries.IdempotencyKey{
		TenantID: request.Principal.TenantID, PrincipalID: string(request.Principal.UserID), Operation: admitOperation, Key: request.IdempotencyKey,
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows), err == nil && !s.config.Now().Before(record.ExpiresAt):
		return reply, false, nil
	case err != nil:
		return reply, false, err
	case !bytes.Equal(record.RequestHash, request.RequestHash):
		return reply, false, fault.New(fault.IdempotencyConflict, "")
	case record.Status == nil:
		return reply, false, nil
	}
	if err := json.Unmarshal(record.Answer, &reply); err != nil {
		return reply, false, fmt.Errorf("the stored answer of %s: %w", request.AllocationID, err)
	}
	return reply, true, nil
}

// admit starts the allocation's workflow, or joins it, and waits for its Admit. Whatever goes wrong on the way, Postgres
// may hold the answer by then.
func (s *server) admit(ctx context.Context, request workflows.AdmitRequest) (workflows.AdmitReply, error) {
	values, err := s.config.Policy.Values(ctx)
	if err != nil {
		return workflows.AdmitReply{}, err
	}
	patience := values.Seconds(authored.AllocationAdmitDeadlineSeconds)
	admitBefore := s.config.Now().UTC().Add(patience)
	asking, cancel := context.WithTimeout(ctx, admissionWait(patience))
	defer cancel()
	var reply workflows.AdmitReply
	err = temporal.AskUntilAnswered(asking, func(ctx context.Context) (err error) {
		reply, err = s.updateWithStart(ctx, request, admitBefore)
		return err
	})
	if err == nil {
		return reply, nil
	}
	stored, known, storedErr := s.storedAdmission(context.WithoutCancel(ctx), request)
	if storedErr == nil && known {
		return stored, nil
	}
	found := temporal.FromError(err)
	if found.Code == fault.InternalError {
		// An update that a closing run lost may simply be asked again.
		found = fault.Wrap(err, fault.ServiceUnavailable, "")
	}
	return reply, found
}

// admissionWait is how long a request waits for an admission that must come within patience. A run that is admitted later is
// found by a repeat of the request.
func admissionWait(patience time.Duration) time.Duration {
	return min(patience+2*time.Second, LongestAnswer)
}

func (s *server) updateWithStart(ctx context.Context, request workflows.AdmitRequest, admitBefore time.Time) (workflows.AdmitReply, error) {
	var reply workflows.AdmitReply
	cluster, err := s.temporal()
	if err != nil {
		return reply, err
	}
	start := cluster.NewWithStartWorkflowOperation(client.StartWorkflowOptions{
		ID: workflows.AllocationWorkflowID(request.AllocationID), TaskQueue: workflows.AllocationsQueue,
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		WorkflowIDReusePolicy:    enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		StaticSummary:            fmt.Sprintf("%s for %s", request.SKU, request.Principal.TenantID),
		StaticDetails: fmt.Sprintf("Allocation `%s` of SKU `%s`\n\n- user `%s`\n- project `%s`\n- account `%s`\n- correlation id `%s`",
			request.AllocationID, request.SKU, request.Principal.UserID, request.ProjectID, request.Principal.AccountID, request.CorrelationID),
		TypedSearchAttributes: sdk.NewSearchAttributes(
			workflows.AttributeState.ValueSet(string(allocation.Requested)),
			workflows.AttributeAccount.ValueSet(string(request.Principal.AccountID)),
			workflows.AttributeSKU.ValueSet(string(request.SKU)),
		),
	}, workflows.AllocationType, workflows.AllocationInput{AllocationID: request.AllocationID, AdmitBefore: admitBefore})
	update, err := cluster.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{
		StartWorkflowOperation: start,
		UpdateOptions: client.UpdateWorkflowOptions{
			// The body is part of the id: another one under the same key must reach Postgres and get its conflict there.
			UpdateID: hex.EncodeToString(request.RequestHash), UpdateName: workflows.AdmitUpdate,
			Args: []any{request}, WaitForStage: client.WorkflowUpdateStageCompleted,
		},
	})
	if err != nil {
		return reply, err
	}
	return reply, update.Get(ctx, &reply)
}

// renderAdmitted is the allocation at the moment of its admission, so that a replay is the same answer for ever.
func renderAdmitted(request workflows.AdmitRequest, reply workflows.AdmitReply) allocationBody {
	terms := reply.Terms
	return allocationBody{
		ID: request.AllocationID, Name: request.Name, Labels: request.Labels,
		TenantID: terms.TenantID, ProjectID: terms.ProjectID, UserID: terms.UserID, State: stateName(allocation.Requested),
		SKU: terms.SKU, NodeID: string(terms.Lease.NodeID), RateMicrosPerHour: int64(terms.RateMicrosPerHour), Currency: terms.Currency,
		WindowSeconds: terms.WindowSeconds, IsolationModel: terms.IsolationModel, RuntimeMode: terms.RuntimeMode,
		MaxSpendMinor: terms.MaxSpendMicros.Minor(), MaxDurationSecs: terms.MaxDurationSeconds,
		RequestedAt: moment(reply.CreatedAt), Version: 1,
	}
}
