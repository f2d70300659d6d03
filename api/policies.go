package api

import (
	"context"
	"encoding/json"
	"math"
	"strconv"

	"github.com/gpuaas/gpuaas/api/middleware"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/telemetry"
)

type policyBody struct {
	Key       string   `json:"key"`
	Type      string   `json:"type" enum:"int,bool,string"`
	Value     any      `json:"value" doc:"Of the key's type: a whole number, true or false, or a word."`
	Default   any      `json:"default" doc:"The value that holds while none was set."`
	Min       *int64   `json:"min,omitempty"`
	Max       *int64   `json:"max,omitempty"`
	Allowed   []string `json:"allowed,omitempty"`
	Longest   int64    `json:"longest,omitempty" doc:"The most characters of a free text."`
	Unit      string   `json:"unit,omitempty"`
	Meaning   string   `json:"meaning"`
	Danger    string   `json:"danger,omitempty" doc:"What to know before changing it."`
	Pinned    bool     `json:"pinned" doc:"Whether running allocations keep the value they were admitted with."`
	Tenant    bool     `json:"tenant" doc:"Whether an operator may set another value for a single tenant."`
	Version   int64    `json:"version" doc:"How often it was set; 0 means never."`
	Reason    string   `json:"reason,omitempty" doc:"Why it was last set."`
	ChangedBy string   `json:"changed_by,omitempty" doc:"The user who last set it."`
	ChangedAt *moment  `json:"changed_at,omitempty"`
	Unfit     any      `json:"unfit_value,omitempty" doc:"What was last set, where this release no longer accepts it: then the default holds."`
}

type policyVersionBody struct {
	Key       string `json:"key"`
	Version   int64  `json:"version"`
	Value     any    `json:"value" doc:"Of the key's type: a whole number, true or false, or a word."`
	Fits      bool   `json:"fits" doc:"Whether this release still accepts the value, so that one can roll back to it."`
	Reason    string `json:"reason"`
	ChangedBy string `json:"changed_by"`
	ChangedAt moment `json:"changed_at"`
}

type (
	PolicyPath struct {
		Key string `path:"key" maxLength:"100"`
	}
	policyOut     struct{ Body policyBody }
	policyListOut struct {
		Body struct {
			Items []policyBody `json:"items"`
		}
	}
	setPolicyIn struct {
		PolicyPath
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			Value           any    `json:"value" doc:"Of the key's type: a whole number, true or false, or a word."`
			Reason          string `json:"reason" minLength:"1" maxLength:"500"`
			ExpectedVersion *int64 `json:"expected_version,omitempty" minimum:"0" doc:"Refuse the change if the version is another one by now."`
		}
	}
	policyChange struct {
		Key             string `json:"key" maxLength:"100"`
		Value           any    `json:"value" doc:"Of the key's type: a whole number, true or false, or a word."`
		ExpectedVersion *int64 `json:"expected_version,omitempty" minimum:"0" doc:"Refuse the change if the version is another one by now."`
	}
	setPoliciesIn struct {
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			Changes []policyChange `json:"changes" minItems:"1" maxItems:"50"`
			Reason  string         `json:"reason" minLength:"1" maxLength:"500"`
		}
	}
	policyVersionsIn struct {
		PolicyPath
		Paging
	}
	policyVersionsOut struct{ Body list[policyVersionBody] }
	rollbackPolicyIn  struct {
		PolicyPath
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			Version         int64  `json:"version" minimum:"0" doc:"The version whose value is to hold again; 0 is the default."`
			Reason          string `json:"reason" minLength:"1" maxLength:"500"`
			ExpectedVersion *int64 `json:"expected_version,omitempty" minimum:"0" doc:"Refuse the change if the version is another one by now."`
		}
	}
)

func (s *server) policyOperations() {
	handle(s, "listPolicies", s.listPolicies)
	handle(s, "getPolicy", s.getPolicy)
	handle(s, "setPolicy", s.setPolicy)
	handle(s, "setPolicies", s.setPolicies)
	handle(s, "listPolicyVersions", s.listPolicyVersions)
	handle(s, "rollbackPolicy", s.rollbackPolicy)
}

func (s *server) listPolicies(ctx context.Context, _ *struct{}) (*policyListOut, error) {
	settings, err := s.config.Policy.List(ctx)
	if err != nil {
		return nil, err
	}
	out := &policyListOut{}
	for _, setting := range settings {
		body, err := renderSetting(setting)
		if err != nil {
			return nil, err
		}
		out.Body.Items = append(out.Body.Items, body)
	}
	return out, nil
}

func (s *server) getPolicy(ctx context.Context, in *PolicyPath) (*policyOut, error) {
	setting, err := s.config.Policy.Get(ctx, in.Key)
	if err != nil {
		return nil, err
	}
	body, err := renderSetting(setting)
	return &policyOut{Body: body}, err
}

func renderSetting(setting policy.Setting) (policyBody, error) {
	info := setting.Info
	key, err := authored.Find(info.Name)
	if err != nil {
		return policyBody{}, err
	}
	standard, err := key.ToJSON(info.Default)
	if err != nil {
		return policyBody{}, err
	}
	body := policyBody{
		Key: info.Name, Type: string(info.Type), Value: setting.Value, Default: standard, Allowed: info.Allowed, Longest: int64(info.Longest), Unit: info.Unit,
		Meaning: info.Meaning, Danger: info.Danger, Pinned: info.Pinned, Tenant: info.Tenant, Version: setting.Version, Reason: setting.Reason, ChangedBy: setting.ActorUserID,
	}
	if info.Type == authored.TypeInt {
		body.Min, body.Max = &info.Min, &info.Max
	}
	if setting.Unfit != nil {
		body.Unfit = setting.Unfit
	}
	if setting.Version > 0 {
		body.ChangedAt = maybe(&setting.SetAt)
	}
	return body, nil
}

func (s *server) setPolicy(ctx context.Context, in *setPolicyIn) (*policyOut, error) {
	set, err := s.changePolicies(ctx, in.Body.Reason, policyChange{Key: in.Key, Value: in.Body.Value, ExpectedVersion: in.Body.ExpectedVersion})
	if err != nil {
		return nil, err
	}
	return &policyOut{Body: set[0]}, nil
}

// setPolicies changes several keys at once or none, so that two that bound each other can always be moved.
func (s *server) setPolicies(ctx context.Context, in *setPoliciesIn) (*policyListOut, error) {
	set, err := s.changePolicies(ctx, in.Body.Reason, in.Body.Changes...)
	if err != nil {
		return nil, err
	}
	out := &policyListOut{}
	out.Body.Items = set
	return out, nil
}

func (s *server) changePolicies(ctx context.Context, reason string, asked ...policyChange) ([]policyBody, error) {
	changes := make([]policy.Change, 0, len(asked))
	for _, one := range asked {
		value, err := json.Marshal(one.Value)
		if err != nil {
			return nil, invalid("body.value", "this is no value")
		}
		changes = append(changes, policy.Change{Name: one.Key, Value: value, ExpectedVersion: one.ExpectedVersion})
	}
	settings, err := s.config.Policy.Set(ctx, s.policyOrder(ctx, reason), changes...)
	if err != nil {
		return nil, err
	}
	bodies := make([]policyBody, 0, len(settings))
	for _, setting := range settings {
		body, err := renderSetting(setting)
		if err != nil {
			return nil, err
		}
		bodies = append(bodies, body)
	}
	return bodies, nil
}

func (s *server) policyOrder(ctx context.Context, reason string) policy.Order {
	return policy.Order{
		Reason: reason, Actor: middleware.Principal(ctx).Actor(), CorrelationID: telemetry.Correlation(ctx), RequestID: middleware.RequestOf(ctx).ID,
	}
}

func (s *server) rollbackPolicy(ctx context.Context, in *rollbackPolicyIn) (*policyOut, error) {
	setting, err := s.config.Policy.Rollback(ctx, s.policyOrder(ctx, in.Body.Reason), in.Key, in.Body.Version, in.Body.ExpectedVersion)
	if err != nil {
		return nil, err
	}
	body, err := renderSetting(setting)
	return &policyOut{Body: body}, err
}

// listPolicyVersions pages by version, which is all that a cursor of it needs to hold.
func (s *server) listPolicyVersions(ctx context.Context, in *policyVersionsIn) (*policyVersionsOut, error) {
	before, err := in.beforeVersion()
	if err != nil {
		return nil, err
	}
	versions, err := s.config.Policy.History(ctx, in.Key, before, in.fetch())
	if err != nil {
		return nil, err
	}
	return policyVersions(in.Paging, versions), nil
}

func policyVersions(in Paging, versions []policy.Version) *policyVersionsOut {
	return &policyVersionsOut{Body: paged(in, versions, func(row policy.Version) after {
		return after{row.CreatedAt, strconv.FormatInt(row.Version, 10)}
	}, renderPolicyVersion)}
}

// beforeVersion is the version that a page of a history begins below.
func (p Paging) beforeVersion() (int64, error) {
	from, err := p.start()
	if err != nil || from.ID == "" {
		return math.MaxInt64, err
	}
	before, err := strconv.ParseInt(from.ID, 10, 64)
	if err != nil {
		return 0, invalid("query.cursor", "the cursor is not one that a page before answered")
	}
	return before, nil
}

func renderPolicyVersion(row policy.Version) policyVersionBody {
	var value any
	if row.Value != nil { // a tenant's value that was ended
		value = row.Value
	}
	return policyVersionBody{
		Key: row.Key, Version: row.Version, Value: value, Fits: row.Fits, Reason: row.Reason, ChangedBy: row.ActorUserID, ChangedAt: moment(row.CreatedAt),
	}
}
