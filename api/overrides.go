package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// What operators set for one tenant alone: policy values and prices.

type tenantPolicyBody struct {
	Key        string   `json:"key"`
	Type       string   `json:"type" enum:"int,bool,string"`
	Value      any      `json:"value" doc:"What holds for the tenant."`
	Platform   any      `json:"platform_value" doc:"What holds for everybody else."`
	Overridden bool     `json:"overridden" doc:"Whether a value of the tenant's own holds."`
	Min        *int64   `json:"min,omitempty"`
	Max        *int64   `json:"max,omitempty"`
	Allowed    []string `json:"allowed,omitempty"`
	Longest    int64    `json:"longest,omitempty" doc:"The most characters of a free text."`
	Unit       string   `json:"unit,omitempty"`
	Meaning    string   `json:"meaning"`
	Version    int64    `json:"version" doc:"How often it was set or ended for the tenant; 0 means never."`
	Reason     string   `json:"reason,omitempty" doc:"Why it was last set or ended for the tenant."`
	ChangedBy  string   `json:"changed_by,omitempty" doc:"The user who last did so."`
	ChangedAt  *moment  `json:"changed_at,omitempty"`
	Unfit      any      `json:"unfit_value,omitempty" doc:"What was last set for the tenant, where it does not fit or go together with other values any more: then the platform's holds."`
}

type tenantPriceBody struct {
	ID                id.Price `json:"id" pattern:"^price_[a-z2-7]{26}$"`
	SKU               id.SKU   `json:"sku"`
	Currency          string   `json:"currency" pattern:"^[a-z]{3}$"`
	RateMicrosPerHour int64    `json:"rate_micros_per_hour" minimum:"0" maximum:"9007199254740991" doc:"0 where it was withdrawn."`
	Withdrawn         bool     `json:"withdrawn" doc:"Whether the list price holds from then on."`
	ValidFrom         moment   `json:"valid_from"`
	CreatedAt         moment   `json:"created_at"`
}

type (
	TenantPath struct {
		TenantID id.Tenant `path:"tenant_id" pattern:"^tenant_[a-z2-7]{26}$"`
	}
	tenantPolicyListOut struct {
		Body struct {
			Items []tenantPolicyBody `json:"items"`
		}
	}
	setTenantPoliciesIn struct {
		TenantPath
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			Changes []tenantPolicyChange `json:"changes" minItems:"1" maxItems:"50"`
			Reason  string               `json:"reason" minLength:"1" maxLength:"500"`
		}
	}
	tenantPolicyChange struct {
		Key             string `json:"key" maxLength:"100"`
		Value           any    `json:"value,omitempty" doc:"Of the key's type; absent to end what was set."`
		ExpectedVersion *int64 `json:"expected_version,omitempty" minimum:"0" doc:"Refuse the change if the version is another one by now."`
	}
	tenantPolicyVersionsIn struct {
		TenantPath
		PolicyPath
		Paging
	}
	tenantPricesIn struct {
		TenantPath
		Paging
	}
	tenantPriceListOut struct{ Body list[tenantPriceBody] }
	setTenantPriceIn   struct {
		TenantPath
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			SKU               id.SKU    `json:"sku" pattern:"^[a-z0-9][a-z0-9-]{0,62}$"`
			Currency          string    `json:"currency" pattern:"^[a-z]{3}$"`
			RateMicrosPerHour *int64    `json:"rate_micros_per_hour,omitempty" minimum:"0" maximum:"9007199254740991" doc:"The price; absent to withdraw the one there is."`
			ValidFrom         time.Time `json:"valid_from,omitempty" doc:"From when it holds; now when absent. Not in the past."`
			Reason            string    `json:"reason" minLength:"1" maxLength:"500"`
		}
	}
	tenantPriceOut struct{ Body tenantPriceBody }
)

func (s *server) overrideOperations() {
	handle(s, "listTenantPolicies", s.listTenantPolicies)
	handle(s, "setTenantPolicies", s.setTenantPolicies)
	handle(s, "listTenantPolicyVersions", s.listTenantPolicyVersions)
	handle(s, "listTenantPrices", s.listTenantPrices)
	handle(s, "setTenantPrice", s.setTenantPrice)
}

// limitFor reads a rate limit as it holds for whoever asks, by the tenant where they are at home.
func (s *server) limitFor(ctx context.Context, key authored.IntKey) (int64, error) {
	tenant := middleware.Principal(ctx).TenantID
	if tenant == "" || !key.Tenant {
		return s.config.Policy.Int(ctx, key)
	}
	values, err := s.config.Policy.ForTenant(ctx, tenant)
	return values.Int(key), err
}

// anyTenant refuses the id of a tenant that does not exist.
func (s *server) anyTenant(ctx context.Context, tenant id.Tenant) error {
	_, err := queries.GetTenant(ctx, s.config.Pool, tenant)
	if errors.Is(err, pgx.ErrNoRows) {
		return fault.New(fault.TenantNotFound, "")
	}
	return err
}

func (s *server) listTenantPolicies(ctx context.Context, in *TenantPath) (*tenantPolicyListOut, error) {
	if err := s.anyTenant(ctx, in.TenantID); err != nil {
		return nil, err
	}
	overrides, err := s.config.Policy.Overrides(ctx, in.TenantID)
	if err != nil {
		return nil, err
	}
	return renderOverrides(overrides), nil
}

func (s *server) setTenantPolicies(ctx context.Context, in *setTenantPoliciesIn) (*tenantPolicyListOut, error) {
	if err := s.anyTenant(ctx, in.TenantID); err != nil {
		return nil, err
	}
	changes := make([]policy.Change, 0, len(in.Body.Changes))
	for _, one := range in.Body.Changes {
		change := policy.Change{Name: one.Key, ExpectedVersion: one.ExpectedVersion}
		if one.Value != nil {
			value, err := json.Marshal(one.Value)
			if err != nil {
				return nil, invalid("body.changes", "this is no value")
			}
			change.Value = value
		}
		changes = append(changes, change)
	}
	overrides, err := s.config.Policy.SetForTenant(ctx, in.TenantID, s.policyOrder(ctx, in.Body.Reason), changes...)
	if err != nil {
		return nil, err
	}
	return renderOverrides(overrides), nil
}

func renderOverrides(overrides []policy.Override) *tenantPolicyListOut {
	out := &tenantPolicyListOut{}
	for _, one := range overrides {
		info := one.Info
		body := tenantPolicyBody{
			Key: info.Name, Type: string(info.Type), Value: one.Value, Platform: one.Platform, Overridden: one.Overridden, Allowed: info.Allowed, Longest: int64(info.Longest),
			Unit: info.Unit, Meaning: info.Meaning, Version: one.Version, Reason: one.Reason, ChangedBy: one.ActorUserID,
		}
		if info.Type == authored.TypeInt {
			body.Min, body.Max = &info.Min, &info.Max
		}
		if one.Version > 0 {
			body.ChangedAt = maybe(&one.SetAt)
		}
		if one.Unfit != nil {
			body.Unfit = one.Unfit
		}
		out.Body.Items = append(out.Body.Items, body)
	}
	return out
}

func (s *server) listTenantPolicyVersions(ctx context.Context, in *tenantPolicyVersionsIn) (*policyVersionsOut, error) {
	before, err := in.beforeVersion()
	if err != nil {
		return nil, err
	}
	if err := s.anyTenant(ctx, in.TenantID); err != nil {
		return nil, err
	}
	versions, err := s.config.Policy.TenantHistory(ctx, in.TenantID, in.Key, before, in.fetch())
	if err != nil {
		return nil, err
	}
	return policyVersions(in.Paging, versions), nil
}

func (s *server) listTenantPrices(ctx context.Context, in *tenantPricesIn) (*tenantPriceListOut, error) {
	from, err := in.start()
	if err != nil {
		return nil, err
	}
	if err := s.anyTenant(ctx, in.TenantID); err != nil {
		return nil, err
	}
	rows, err := queries.ReadTenantPrices(ctx, s.config.Pool, queries.TenantPricePage{
		Tenant: in.TenantID, BeforeTime: from.Time, BeforeID: id.Price(from.ID), Limit: in.fetch(),
	})
	if err != nil {
		return nil, err
	}
	return &tenantPriceListOut{Body: paged(in.Paging, rows, func(row queries.PriceRow) after { return after{row.ValidFrom, string(row.ID)} }, renderTenantPrice)}, nil
}

func renderTenantPrice(row queries.PriceRow) tenantPriceBody {
	return tenantPriceBody{
		ID: row.ID, SKU: row.SKU, Currency: row.Currency, RateMicrosPerHour: int64(row.RateMicrosPerHour), Withdrawn: row.Withdrawn,
		ValidFrom: moment(row.ValidFrom), CreatedAt: moment(row.CreatedAt),
	}
}

// setTenantPrice adds a price for what the tenant starts from then on, or ends the one it has. The audit row holds the
// whole of it, so that a repeat answers what the first request wrote.
func (s *server) setTenantPrice(ctx context.Context, in *setTenantPriceIn) (*tenantPriceOut, error) {
	if record, made, err := s.changed(ctx); err != nil || made {
		if err != nil {
			return nil, err
		}
		return tenantPriceOf(record)
	}
	now := s.config.Now().UTC().Truncate(time.Millisecond)
	price := queries.PriceRow{
		ID: id.New[id.Price](random16()), SKU: in.Body.SKU, Currency: in.Body.Currency, ValidFrom: in.Body.ValidFrom.UTC().Truncate(time.Millisecond),
		CreatedAt: now, Withdrawn: in.Body.RateMicrosPerHour == nil,
	}
	if !price.Withdrawn {
		price.RateMicrosPerHour = money.Micros(*in.Body.RateMicrosPerHour)
	}
	if in.Body.ValidFrom.IsZero() {
		price.ValidFrom = now
	}
	if price.ValidFrom.Before(now.Add(-pastTolerance)) {
		return nil, invalid("body.valid_from", "a price cannot hold from a moment in the past")
	}
	if err := s.anyTenant(ctx, in.TenantID); err != nil {
		return nil, err
	}
	if _, err := s.sku(ctx, price.SKU); err != nil {
		return nil, err
	}
	err := store.InTx(ctx, s.config.Pool, func(ctx context.Context, tx pgx.Tx) error {
		inserted, err := queries.InsertTenantPrice(ctx, tx, in.TenantID, queries.Price{
			ID: price.ID, SKU: price.SKU, Currency: price.Currency, RateMicrosPerHour: price.RateMicrosPerHour, ValidFrom: price.ValidFrom,
		}, price.Withdrawn)
		if err != nil {
			return err
		}
		if !inserted {
			return fault.New(fault.PriceConflict, "")
		}
		return queries.InsertAudit(ctx, tx, queries.Audit{
			TenantID: string(in.TenantID), Actor: middleware.Principal(ctx).Actor(), Action: "sku.set_tenant_price", TargetType: "tenant", TargetID: string(in.TenantID),
			CorrelationID: telemetry.Correlation(ctx), RequestID: middleware.RequestOf(ctx).ID,
			Details: map[string]any{
				"price_id": price.ID, "sku": price.SKU, "currency": price.Currency, "rate_micros_per_hour": int64(price.RateMicrosPerHour),
				"valid_from": price.ValidFrom, "withdrawn": price.Withdrawn, "reason": in.Body.Reason,
			},
		})
	})
	if err != nil {
		return nil, err
	}
	return &tenantPriceOut{Body: renderTenantPrice(price)}, nil
}

// tenantPriceOf is the price that a request set, as its audit row tells it.
func tenantPriceOf(record queries.AuditRecord) (*tenantPriceOut, error) {
	var set struct {
		ID                id.Price     `json:"price_id"`
		SKU               id.SKU       `json:"sku"`
		Currency          string       `json:"currency"`
		RateMicrosPerHour money.Micros `json:"rate_micros_per_hour"`
		ValidFrom         time.Time    `json:"valid_from"`
		Withdrawn         bool         `json:"withdrawn"`
	}
	if err := json.Unmarshal(record.Details, &set); err != nil {
		return nil, fmt.Errorf("the audit row of a tenant's price: %w", err)
	}
	return &tenantPriceOut{Body: renderTenantPrice(queries.PriceRow{
		ID: set.ID, SKU: set.SKU, Currency: set.Currency, RateMicrosPerHour: set.RateMicrosPerHour, ValidFrom: set.ValidFrom, Withdrawn: set.Withdrawn, CreatedAt: record.CreatedAt,
	})}, nil
}
