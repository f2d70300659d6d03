package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gpuaas/gpuaas/bench/rig"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/schema/queries"
)

const benchSKU id.SKU = "h100-8x"

// world is a migrated database of its own and two namespaces, on the servers it was given.
type world struct {
	pool       *pgxpool.Pool
	principals []identity.Principal
	ours, bare temporal.Config
	drop       func()
}

// newWorld makes enough nodes for every allocation, and tenants with money for four each round.
func newWorld(ctx context.Context, servers rig.Servers, nodes, tenants int) (*world, error) {
	pool, drop, err := servers.Database(ctx, 16)
	if err != nil {
		return nil, err
	}
	w := &world{pool: pool, drop: drop}
	if w.ours, err = servers.Namespace(ctx, "ours"); err != nil {
		return nil, err
	}
	if w.bare, err = servers.Namespace(ctx, "bare"); err != nil {
		return nil, err
	}
	return w, w.fill(ctx, nodes, tenants)
}

func (w *world) fill(ctx context.Context, nodes, tenants int) error {
	for _, statement := range []string{
		`INSERT INTO policy_values (key, version, value, actor_user_id) VALUES ('provisioning.runtime_mode', 1, '"noop"', 'platform')`,
		`INSERT INTO policy_values (key, version, value, actor_user_id) VALUES ('billing.window_seconds', 1, '3600', 'platform')`,
		`INSERT INTO skus (id, name, gpu_model, gpu_count, gpu_memory_bytes, cpu_model, cpu_count, memory_bytes, disk_bytes, os_image, cuda_version, location)
			VALUES ('h100-8x', 'h100', 'NVIDIA H100', 8, 1, 'cpu', 1, 1, 1, 'ubuntu', '12.8', 'here')`,
		`INSERT INTO sku_prices (id, sku_id, currency, rate_micros_per_hour, valid_from)
			VALUES ('price_seedhaaaaaaaaaaaaaaaaaaaaa', 'h100-8x', 'usd', 23920000, '2026-01-01')`,
	} {
		if _, err := w.pool.Exec(ctx, statement); err != nil {
			return fmt.Errorf("fill the database: %w", err)
		}
	}
	for i := range nodes {
		nodeID := rig.NewID[id.Node]()
		if _, err := queries.InsertNode(ctx, w.pool, nodeID, benchSKU, fmt.Sprintf("node-%05d", i)); err != nil {
			return err
		}
		if _, err := queries.TransitionNode(ctx, w.pool, nodeID, 1, node.Online, node.Open, ""); err != nil {
			return err
		}
	}
	for i := range tenants {
		principal, err := w.signIn(ctx, fmt.Sprintf("tenant-%03d", i))
		if err != nil {
			return err
		}
		w.principals = append(w.principals, principal)
	}
	_, err := w.pool.Exec(ctx, "ANALYZE")
	return err
}

func (w *world) signIn(ctx context.Context, subject string) (identity.Principal, error) {
	var principal identity.Principal
	err := store.InTx(ctx, w.pool, func(ctx context.Context, tx pgx.Tx) error {
		signed, err := queries.EnsureIdentity(ctx, tx, queries.SignIn{
			Issuer: "https://issuer.bench", Subject: subject, Username: subject, Currency: "usd",
			TenantID: rig.NewID[id.Tenant](), UserID: rig.NewID[id.User](), ProjectID: rig.NewID[id.Project](), AccountID: rig.NewID[id.Account](),
		})
		if err != nil {
			return err
		}
		principal = identity.Principal{UserID: signed.User.ID, TenantID: signed.User.TenantID, ProjectID: signed.Tenants[0].ProjectID, AccountID: signed.Tenants[0].AccountID}
		_, err = tx.Exec(ctx, `INSERT INTO ledger_entries (kind, txn_id, debit_account_id, credit_account_id, currency, amount_micros, idempotency_key)
			VALUES ('opening_credit', gen_random_uuid(), 'acct_platformcreditusdaaaaaaaaa', $1, 'usd', 100000000000, 'bench:' || $1::text)`, string(signed.Tenants[0].AccountID))
		return err
	})
	return principal, err
}
