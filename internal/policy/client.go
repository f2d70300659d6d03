// Package policy reads and sets what an operator may tune: the newest version of a key in policy_values, or the
// authored default. It is the only way to a policy value; it imports schema/queries, internal/store and domain.
package policy

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// freshFor is how old a value may be when Values answers it.
const freshFor = 2 * time.Second

// Client reads policy values, at most two seconds old, and sets them. It is safe for concurrent use.
type Client struct {
	pool *pgxpool.Pool

	mutex   sync.Mutex
	cached  Values
	until   time.Time
	tenants map[id.Tenant]tenantValues
}

// New makes a client on a pool.
func New(pool *pgxpool.Pool) *Client {
	return &Client{pool: pool, tenants: map[id.Tenant]tenantValues{}}
}

// Values is one consistent reading of every key.
type Values struct {
	newest map[string]queries.PolicyValue
	// overrides are the newest versions of one tenant's own, of which those dropped are not in force.
	overrides map[string]queries.PolicyValue
	dropped   map[string]bool
}

// Values reads every key at once, at most two seconds old.
func (c *Client) Values(ctx context.Context) (Values, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if now := time.Now(); now.Before(c.until) {
		return c.cached, nil
	}
	values, err := Read(ctx, c.pool)
	if err != nil {
		return Values{}, err
	}
	c.cached, c.until = values, time.Now().Add(freshFor)
	return values, nil
}

// Read reads every key now, in the transaction it is given: what an admission pins is what stands at that moment.
func Read(ctx context.Context, db queries.DB) (Values, error) {
	rows, err := queries.NewestPolicyValues(ctx, db)
	return valuesOf(rows, err)
}

func valuesOf(rows []queries.PolicyValue, err error) (Values, error) {
	if err != nil {
		return Values{}, fmt.Errorf("read the policy: %w", err)
	}
	newest := make(map[string]queries.PolicyValue, len(rows))
	for _, row := range rows {
		newest[row.Key] = row
	}
	return Values{newest: newest}, nil
}

// Int is the value of a whole-number key. A stored value that its key no longer accepts counts as not set.
func (v Values) Int(key policy.IntKey) int64 {
	_, set := v.newest[key.Name]
	_, overridden := v.overrides[key.Name]
	if !set && !overridden {
		return key.Default // without a detour by text: the ledger asks once a window
	}
	value, err := key.Parse(v.text(key))
	if err != nil {
		return key.Default
	}
	return value
}

// Seconds is the value of a key whose unit is seconds, as a duration.
func (v Values) Seconds(key policy.IntKey) time.Duration {
	return time.Duration(v.Int(key)) * time.Second
}

// Bool is the value of a true-or-false key.
func (v Values) Bool(key policy.BoolKey) bool {
	value, err := key.Parse(v.text(key))
	if err != nil {
		return key.Default
	}
	return value
}

// String is the value of a key that takes one of a few words.
func (v Values) String(key policy.StringKey) string {
	value, err := key.Parse(v.text(key))
	if err != nil {
		return key.Default
	}
	return value
}

// text is the canonical text of the key's value, the default's when none was set or the set one no longer fits.
func (v Values) text(key policy.Key) string {
	if text, set := v.override(key); set {
		return text
	}
	return v.platformText(key)
}

// platformText is what holds for every tenant without a value of its own.
func (v Values) platformText(key policy.Key) string {
	info := key.Info()
	row, set := v.newest[info.Name]
	if !set {
		return info.Default
	}
	text, err := key.FromJSON(row.Value)
	if err != nil {
		return info.Default
	}
	return text
}

// texts is every key's canonical text, as CheckTogether wants them.
func (v Values) texts() map[string]string {
	texts := map[string]string{}
	for _, key := range policy.All() {
		texts[key.Info().Name] = v.text(key)
	}
	return texts
}

// Check refuses values that do not go together, which two writers may have made of values that each were right.
func (v Values) Check() error { return policy.CheckTogether(v.texts()) }

// Int reads one whole-number key, at most two seconds old.
func (c *Client) Int(ctx context.Context, key policy.IntKey) (int64, error) {
	values, err := c.Values(ctx)
	return values.Int(key), err
}

// Bool reads one true-or-false key, at most two seconds old.
func (c *Client) Bool(ctx context.Context, key policy.BoolKey) (bool, error) {
	values, err := c.Values(ctx)
	return values.Bool(key), err
}

// String reads one word key, at most two seconds old.
func (c *Client) String(ctx context.Context, key policy.StringKey) (string, error) {
	values, err := c.Values(ctx)
	return values.String(key), err
}

// Setting is a key with the value in force. Version is 0 and the rest empty while the authored default holds.
type Setting struct {
	Info  policy.Info
	Value json.RawMessage
	// Unfit is the value of Version where the key no longer accepts it: then the default is in force.
	Unfit       json.RawMessage
	Version     int64
	Reason      string
	ActorUserID string
	SetAt       time.Time
}

// List reads every key with the value in force now, in the catalogue's order.
func (c *Client) List(ctx context.Context) ([]Setting, error) {
	values, err := Read(ctx, c.pool)
	if err != nil {
		return nil, err
	}
	settings := make([]Setting, 0, len(policy.All()))
	for _, key := range policy.All() {
		setting, err := values.setting(key)
		if err != nil {
			return nil, err
		}
		settings = append(settings, setting)
	}
	return settings, nil
}

// Get reads one key with the value in force now; fault.PolicyNotFound for a name that is no key.
func (c *Client) Get(ctx context.Context, name string) (Setting, error) {
	key, err := policy.Find(name)
	if err != nil {
		return Setting{}, err
	}
	values, err := Read(ctx, c.pool)
	if err != nil {
		return Setting{}, err
	}
	return values.setting(key)
}

func (v Values) setting(key policy.Key) (Setting, error) {
	info := key.Info()
	value, err := key.ToJSON(v.text(key))
	if err != nil {
		return Setting{}, fmt.Errorf("the value of %s: %w", info.Name, err)
	}
	row := v.newest[info.Name]
	setting := Setting{Info: info, Value: value, Version: row.Version, Reason: row.Reason, ActorUserID: row.ActorUserID, SetAt: row.CreatedAt}
	if _, err := key.FromJSON(row.Value); err != nil && row.Version > 0 {
		setting.Unfit = row.Value
	}
	return setting, nil
}

// forget makes the next reading a fresh one, so that whoever set a value here also reads it here.
func (c *Client) forget() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.until = time.Time{}
	clear(c.tenants)
}
