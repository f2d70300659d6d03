package api

import (
	"context"
	"encoding/json"

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
	Unit      string   `json:"unit,omitempty"`
	Meaning   string   `json:"meaning"`
	Danger    string   `json:"danger,omitempty" doc:"What to know before changing it."`
	Pinned    bool     `json:"pinned" doc:"Whether running allocations keep the value they were admitted with."`
	Version   int64    `json:"version" doc:"How often it was set; 0 means never."`
	Reason    string   `json:"reason,omitempty" doc:"Why it was last set."`
	ChangedBy string   `json:"changed_by,omitempty" doc:"The user who last set it."`
	ChangedAt *moment  `json:"changed_at,omitempty"`
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
)

func (s *server) policyOperations() {
	handle(s, "listPolicies", s.listPolicies)
	handle(s, "getPolicy", s.getPolicy)
	handle(s, "setPolicy", s.setPolicy)
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
		Key: info.Name, Type: string(info.Type), Value: setting.Value, Default: standard, Allowed: info.Allowed, Unit: info.Unit,
		Meaning: info.Meaning, Danger: info.Danger, Pinned: info.Pinned, Version: setting.Version, Reason: setting.Reason, ChangedBy: setting.ActorUserID,
	}
	if info.Type == authored.TypeInt {
		body.Min, body.Max = &info.Min, &info.Max
	}
	if setting.Version > 0 {
		body.ChangedAt = maybe(&setting.SetAt)
	}
	return body, nil
}

func (s *server) setPolicy(ctx context.Context, in *setPolicyIn) (*policyOut, error) {
	value, err := json.Marshal(in.Body.Value)
	if err != nil {
		return nil, invalid("body.value", "this is no value")
	}
	setting, err := s.config.Policy.Set(ctx, policy.Change{
		Name: in.Key, Value: value, Reason: in.Body.Reason, ExpectedVersion: in.Body.ExpectedVersion,
		Actor: middleware.Principal(ctx).Actor(), CorrelationID: telemetry.Correlation(ctx), RequestID: middleware.RequestOf(ctx).ID,
	})
	if err != nil {
		return nil, err
	}
	body, err := renderSetting(setting)
	return &policyOut{Body: body}, err
}
