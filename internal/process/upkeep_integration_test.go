//go:build integration

package process

import (
	"testing"

	"github.com/gpuaas/gpuaas/internal/store/storetest"
)

// More answers may be past their retention than one statement removes; those within it stay.
func TestAnswersPastTheirRetentionAreForgotten(t *testing.T) {
	database := storetest.New(t)
	exec := func(sql string, arguments ...any) {
		t.Helper()
		if _, err := database.Owner.Exec(t.Context(), sql, arguments...); err != nil {
			t.Fatal(err)
		}
	}
	exec(`INSERT INTO tenants (id, kind, name) VALUES ('tenant_aaaaaaaaaaaaaaaaaaaaaaaaaa', 'personal', 'one')`)
	remember := func(prefix string, many int, expires string) {
		exec(`INSERT INTO idempotency_records (tenant_id, principal_id, operation, key, request_hash, status, expires_at)
			SELECT 'tenant_aaaaaaaaaaaaaaaaaaaaaaaaaa', 'user', 'setPolicy', $1 || n, decode(repeat('00', 32), 'hex'), 200, now() + $3::interval FROM generate_series(1, $2) n`,
			prefix, many, expires)
	}
	remember("old", idempotencyPurgeRun+10, "-1 second")
	remember("new", 3, "1 hour")
	if err := forgetAnswers(t.Context(), database.App); err != nil {
		t.Fatal(err)
	}
	var old, fresh int
	if err := database.Owner.QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE key LIKE 'old%'), count(*) FILTER (WHERE key LIKE 'new%') FROM idempotency_records`).Scan(&old, &fresh); err != nil {
		t.Fatal(err)
	}
	if old != 0 || fresh != 3 {
		t.Errorf("%d answers past their retention remain, and %d of 3 within it", old, fresh)
	}
}
