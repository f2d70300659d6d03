//go:build integration

package process_test

import (
	"log/slog"
	"testing"

	"github.com/gpuaas/gpuaas/internal/process"
	"github.com/gpuaas/gpuaas/internal/store/storetest"
)

func TestAnAdministratorIsAppointedOnTheDatabaseItself(t *testing.T) {
	db := storetest.New(t)
	config := process.AppointAdminConfig{
		OwnerURL: db.OwnerURL, Issuer: "https://id.example.com", Subject: "s-1", Username: "ada", Reason: "the installation's first",
		Log: process.LogConfig{Logger: slog.New(slog.DiscardHandler)},
	}
	state := func() (state string) {
		t.Helper()
		if err := db.Owner.QueryRow(t.Context(), `SELECT users.username || ' ' || users.status || ' ' || admin.source || ' ' || admin.granted_by
			|| ' ' || (SELECT count(*) FROM tenant_members WHERE user_id = users.id AND role = 'owner')
			|| ' ' || (SELECT count(*) FROM audit_logs WHERE action = 'platform_admin.appoint' AND actor_user_id = 'break-glass' AND target_id = users.id)
			FROM users JOIN platform_admins AS admin ON admin.user_id = users.id`).Scan(&state); err != nil {
			t.Fatal(err)
		}
		return state
	}
	appoint := func(want string) {
		t.Helper()
		if err := process.RunAppointAdmin(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		if got := state(); got != want {
			t.Errorf("the administrator is %q, not %q", got, want)
		}
	}
	appoint("ada active appointed break-glass 1 1")
	appoint("ada active appointed break-glass 1 2")

	// Somebody suspended the last one on the database: the way back in is the same.
	for _, statement := range []string{
		`ALTER TABLE users DISABLE TRIGGER users_last_platform_admin`, `UPDATE users SET status = 'suspended'`, `ALTER TABLE users ENABLE ALWAYS TRIGGER users_last_platform_admin`,
	} {
		if _, err := db.Owner.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	appoint("ada active appointed break-glass 1 3")
}
