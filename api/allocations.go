package api

import (
	"context"
	"encoding/json"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

// stateName is an allocation's state as a parameter or in an answer.
type stateName string

// Schema lists the seven states.
func (stateName) Schema(huma.Registry) *huma.Schema {
	schema := &huma.Schema{Type: huma.TypeString}
	for _, state := range allocation.States() {
		schema.Enum = append(schema.Enum, string(state))
	}
	return schema
}

type sshAccess struct {
	Host     string `json:"host"`
	Port     int64  `json:"port"`
	Username string `json:"username"`
	HostKey  string `json:"host_key" doc:"The node's public host key in authorized_keys form."`
}

type allocationFailure struct {
	Code    string `json:"code" doc:"A code of schema/errors.yaml."`
	Message string `json:"message"`
}

type releaseCertificate struct {
	Wiped      bool     `json:"wiped"`
	Statement  string   `json:"statement"`
	Checks     []string `json:"checks,omitempty"`
	Assurance  string   `json:"assurance,omitempty"`
	NodeID     string   `json:"node_id"`
	Generation int64    `json:"generation"`
}

type allocationBody struct {
	ID                id.Allocation       `json:"id" pattern:"^alloc_[a-z2-7]{26}$"`
	Name              string              `json:"name"`
	Labels            map[string]string   `json:"labels"`
	TenantID          id.Tenant           `json:"tenant_id"`
	ProjectID         id.Project          `json:"project_id"`
	UserID            id.User             `json:"user_id" doc:"Its owner."`
	State             stateName           `json:"state"`
	SKU               id.SKU              `json:"sku"`
	NodeID            string              `json:"node_id,omitempty" doc:"The node in use, or used last."`
	SSH               *sshAccess          `json:"ssh,omitempty"`
	RateMicrosPerHour int64               `json:"rate_micros_per_hour"`
	Currency          string              `json:"currency"`
	WindowSeconds     int64               `json:"window_seconds"`
	MaxSpendMinor     int64               `json:"max_spend_minor,omitempty" doc:"Its bill never exceeds this, in minor units of the currency."`
	MaxDurationSecs   int64               `json:"max_duration_seconds,omitempty" doc:"It ends this long after its meter started, at the latest."`
	IsolationModel    string              `json:"isolation_model" enum:"user-revoke,full-reimage"`
	RuntimeMode       string              `json:"runtime_mode" enum:"agent,noop"`
	RequestedAt       moment              `json:"requested_at"`
	MeteredFrom       *moment             `json:"metered_from,omitempty" doc:"When it became active and the meter started."`
	MeteredTo         *moment             `json:"metered_to,omitempty" doc:"When the meter stopped."`
	SuspendedAt       *moment             `json:"suspended_at,omitempty" doc:"Since when a suspension has the meter stand still and nobody can log in."`
	EndedAt           *moment             `json:"ended_at,omitempty" doc:"When it became released or failed."`
	ReleaseCause      string              `json:"release_cause,omitempty" enum:"tenant,admin,funds,limit,provisioning"`
	Failure           *allocationFailure  `json:"failure,omitempty"`
	Certificate       *releaseCertificate `json:"certificate,omitempty"`
	Version           int64               `json:"version" doc:"Rises by one with every change of state."`
	CostMicros        int64               `json:"cost_micros" doc:"What has been charged less what was credited."`
}

type (
	AllocationPath struct {
		AllocationID id.Allocation `path:"allocation_id" pattern:"^alloc_[a-z2-7]{26}$"`
	}
	allocationOut    struct{ Body allocationBody }
	allocationFilter struct {
		Paging
		Where
		State stateName `query:"state" doc:"Only allocations in this state."`
	}
	allocationListOut struct{ Body list[allocationBody] }
)

func (s *server) allocationOperations() {
	handle(s, "createAllocation", s.createAllocation)
	handle(s, "listAllocations", s.listAllocations)
	handle(s, "getAllocation", s.getAllocation)
	handle(s, "releaseAllocation", s.releaseAllocation)
	handle(s, "getAllocationTimeline", s.getAllocationTimeline)
	handle(s, "explainAllocation", s.explainAllocation)
	handle(s, "waitAllocation", s.waitAllocation)
	handle(s, "adminListAllocations", s.adminListAllocations)
	handle(s, "forceReleaseAllocation", s.forceReleaseAllocation)
}

// theAllocation is the row that the guard read to find out who may ask.
func theAllocation(ctx context.Context) (queries.Allocation, error) {
	row, found := middleware.At(ctx).Object.(queries.Allocation)
	if !found {
		return row, fault.New(fault.AllocationNotFound, "")
	}
	return row, nil
}

func (s *server) getAllocation(ctx context.Context, _ *AllocationPath) (*allocationOut, error) {
	billed, found := middleware.At(ctx).Object.(queries.BilledAllocation)
	if !found {
		return nil, fault.New(fault.AllocationNotFound, "")
	}
	return &allocationOut{Body: renderAllocation(billed.Allocation, billed.CostMicros)}, nil
}

func (s *server) withCost(ctx context.Context, row queries.Allocation) (*allocationOut, error) {
	costs, err := queries.Costs(ctx, s.config.Pool, []id.Allocation{row.ID})
	if err != nil {
		return nil, err
	}
	return &allocationOut{Body: renderAllocation(row, costs[row.ID])}, nil
}

func (s *server) listAllocations(ctx context.Context, in *allocationFilter) (*allocationListOut, error) {
	at := middleware.At(ctx)
	return s.allocationsOf(ctx, at.TenantID, at.ProjectID, in)
}

func (s *server) adminListAllocations(ctx context.Context, in *allocationFilter) (*allocationListOut, error) {
	return s.allocationsOf(ctx, in.TenantID, in.ProjectID, in)
}

func (s *server) allocationsOf(ctx context.Context, tenant id.Tenant, project id.Project, in *allocationFilter) (*allocationListOut, error) {
	from, err := in.start()
	if err != nil {
		return nil, err
	}
	filter := queries.AllocationFilter{TenantID: tenant, ProjectID: project, BeforeTime: from.Time, BeforeID: id.Allocation(from.ID), Limit: in.fetch()}
	if in.State != "" {
		filter.States = []allocation.State{allocation.State(in.State)}
	}
	rows, err := queries.ListAllocations(ctx, s.config.Pool, filter)
	if err != nil {
		return nil, err
	}
	ids := make([]id.Allocation, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	costs, err := queries.Costs(ctx, s.config.Pool, ids)
	if err != nil {
		return nil, err
	}
	return &allocationListOut{Body: paged(in.Paging, rows,
		func(row queries.Allocation) after { return after{row.CreatedAt, string(row.ID)} },
		func(row queries.Allocation) allocationBody { return renderAllocation(row, costs[row.ID]) })}, nil
}

func renderAllocation(row queries.Allocation, cost money.Micros) allocationBody {
	labels := row.Labels
	if labels == nil {
		labels = map[string]string{}
	}
	body := allocationBody{
		ID: row.ID, Name: row.Name, Labels: labels, TenantID: row.TenantID, ProjectID: row.ProjectID, UserID: row.UserID,
		State: stateName(row.State), SKU: row.SKU, NodeID: text(row.NodeID),
		RateMicrosPerHour: int64(row.RateMicrosPerHour), Currency: row.Currency, WindowSeconds: row.WindowSeconds,
		IsolationModel: row.IsolationModel, RuntimeMode: row.RuntimeMode, RequestedAt: moment(row.CreatedAt),
		MeteredFrom: maybe(row.MeteredFrom), MeteredTo: maybe(row.MeteredTo), SuspendedAt: maybe(row.SuspendedAt), EndedAt: maybe(row.EndedAt),
		ReleaseCause: text(row.ReleaseCause), Version: row.Version, CostMicros: int64(cost),
	}
	if row.MaxSpendMicros != nil {
		body.MaxSpendMinor = row.MaxSpendMicros.Minor()
	}
	if row.MaxDurationSeconds != nil {
		body.MaxDurationSecs = *row.MaxDurationSeconds
	}
	if row.State == allocation.Active {
		body.SSH = &sshAccess{Host: row.SSHHost, Port: int64(row.SSHPort), Username: row.Username, HostKey: row.SSHHostKey}
	}
	if row.FailureCode != "" {
		body.Failure = &allocationFailure{Code: row.FailureCode, Message: row.FailureMessage}
	}
	if row.Certificate != nil {
		var stored workflows.ReleaseCertificate
		if json.Unmarshal(*row.Certificate, &stored) == nil {
			body.Certificate = &releaseCertificate{
				Wiped: stored.Wiped, Statement: stored.Statement, Checks: stored.Checks, Assurance: stored.Assurance,
				NodeID: string(stored.NodeID), Generation: stored.Generation,
			}
		}
	}
	return body
}
