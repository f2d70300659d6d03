package stack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/gpuaas/gpuaas/agent/gateway"
	"github.com/gpuaas/gpuaas/agent/sim"
)

const (
	operator = "dev-admin"

	// openingCreditMinor is what each development user starts with: 100,000.00, enough for every drill.
	openingCreditMinor = 10_000_000
	openingReason      = "Opening credit of the development stack"

	simulatedPrefix = "sim-"
	// tokenMargin is how long a token must still be good for a node to be enrolled with it.
	tokenMargin = time.Minute
)

// simulatedSKUs are those of schema/seed.sql; the nodes take them in turn.
func simulatedSKUs() []string { return []string{"h100-8x", "a100-8x"} }

// Opening makes an instance worth looking at, through the product's own API: credit for the development users and a
// fleet of simulated nodes. Everything in it may be repeated and changes nothing the second time.
type Opening struct {
	platform *platform
	// directory holds the fleet file and a directory for each node.
	directory string
	nodes     int
	ports     Ports
	// before is when the platform had last heard of each node when this life of the instance began.
	before map[string]time.Time
}

// NewOpening of an instance with this many simulated nodes.
func NewOpening(e Endpoints, nodes int) *Opening {
	return &Opening{platform: newPlatform(e), directory: e.SimStateDir, nodes: nodes, ports: Ports{Base: e.PortBase}}
}

// Prepare waits for the API, posts the credit and writes the fleet file, from which the simulated nodes enrol.
func (o *Opening) Prepare(ctx context.Context) error {
	if err := until(ctx, "the API does not become ready", func() error { return o.platform.ready(ctx) }); err != nil {
		return err
	}
	for _, login := range o.platform.endpoints.Users {
		if err := o.retry(ctx, func() error { return o.platform.signIn(ctx, login.Username) }); err != nil {
			return err
		}
	}
	for _, login := range o.platform.endpoints.Users {
		if login.OrgID != "" {
			continue // whoever wants to try an organisation credits it as an operator would
		}
		if err := o.retry(ctx, func() error { return o.credit(ctx, login.Username) }); err != nil {
			return fmt.Errorf("the opening credit of %s: %w", login.Username, err)
		}
	}
	if err := o.retry(ctx, func() error { return o.rememberNodes(ctx) }); err != nil {
		return err
	}
	return o.writeFleet(ctx)
}

// retry repeats do until it works, is refused for good, or ctx ends.
func (o *Opening) retry(ctx context.Context, do func() error) error {
	var final error
	err := until(ctx, "the API does not do its part", func() error {
		err := do()
		if err != nil && !mayHeal(err) {
			final = err
			return nil
		}
		return err
	})
	return errors.Join(err, final)
}

func (o *Opening) credit(ctx context.Context, username string) error {
	var me struct {
		Account struct {
			ID       string `json:"id"`
			Currency string `json:"currency"`
		} `json:"account"`
	}
	// Users, tenants and accounts are made at a first sign-in: this is it.
	if err := o.platform.call(ctx, username, http.MethodGet, "/api/v1/me", "", nil, &me); err != nil {
		return err
	}
	return o.platform.call(ctx, operator, http.MethodPost, "/api/v1/admin/accounts/"+me.Account.ID+"/adjustments", "devstack-opening-credit-"+username,
		map[string]any{"amount_minor": openingCreditMinor, "currency": me.Account.Currency, "reason": openingReason}, nil)
}

// hardware is what the nodes of a SKU say of themselves.
type hardware struct {
	GPUModel       string `json:"gpu_model"`
	GPUCount       int    `json:"gpu_count"`
	GPUMemoryBytes int64  `json:"gpu_memory_bytes"`
}

// writeFleet repeats each call by itself: a large fleet takes more of them than an operator's budget has in a minute, and goes on as that fills up.
func (o *Opening) writeFleet(ctx context.Context) error {
	skus := simulatedSKUs()
	described := map[string]hardware{}
	for _, slug := range skus {
		var answer hardware
		err := o.retry(ctx, func() error {
			return o.platform.call(ctx, operator, http.MethodGet, "/api/v1/skus/"+slug, "", nil, &answer)
		})
		if err != nil {
			return err
		}
		described[slug] = answer
	}
	members := make([]sim.Member, 0, o.nodes)
	for n := range o.nodes {
		name := fmt.Sprintf("%s%03d", simulatedPrefix, n+1)
		slug := skus[n%len(skus)]
		var token string
		err := o.retry(ctx, func() (err error) {
			token, err = o.enrolToken(ctx, name, slug)
			return err
		})
		if err != nil {
			return fmt.Errorf("the enrolment of %s: %w", name, err)
		}
		members = append(members, sim.Member{
			Name: name, EnrolToken: token, GPUModel: described[slug].GPUModel, GPUCount: described[slug].GPUCount, GPUMemoryBytes: described[slug].GPUMemoryBytes,
			SSHPort: o.ports.NodeSSH(n),
		})
	}
	if err := os.MkdirAll(o.directory, 0o700); err != nil {
		return err
	}
	return writeJSON(filepath.Join(o.directory, fleetName), members)
}

// enrolToken mints a token for a node that has no identity yet. The key is fixed, so that a repeat gets the same
// token; when that one has expired unused, the next key is taken.
func (o *Opening) enrolToken(ctx context.Context, name, sku string) (string, error) {
	if (gateway.Files{Directory: filepath.Join(o.directory, name)}).Enrolled() {
		return "", nil
	}
	for attempt := 1; ; attempt++ {
		var minted struct {
			Token     string    `json:"token"`
			ExpiresAt time.Time `json:"expires_at"`
		}
		err := o.platform.call(ctx, operator, http.MethodPost, "/api/v1/admin/nodes/enrol-tokens", "devstack-"+name+"-"+strconv.Itoa(attempt),
			map[string]any{"sku": sku, "hostname": name}, &minted)
		if err != nil {
			return "", err
		}
		if time.Until(minted.ExpiresAt) > tokenMargin {
			return minted.Token, nil
		}
	}
}
