//go:build integration

package process_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/gpuaas/gpuaas/agent/sshtest"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/node"
	"github.com/gpuaas/gpuaas/internal/process"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
)

// cutWithin is the promise: a suspension ends running sessions within this time.
const cutWithin = 5 * time.Second

// allocationNow is what the API says of an allocation.
type allocationNow struct {
	State       string     `json:"state"`
	MeteredFrom *time.Time `json:"metered_from"`
	SuspendedAt *time.Time `json:"suspended_at"`
	CostMicros  int64      `json:"cost_micros"`
	SSH         struct {
		Username string `json:"username"`
		Host     string `json:"host"`
		Port     int    `json:"port"`
		HostKey  string `json:"host_key"`
	} `json:"ssh"`
}

func (p *platform) show(t *testing.T, who person, allocation id.Allocation) allocationNow {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/api/v1/allocations/"+string(allocation), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+who.token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var now allocationNow
	if err := json.NewDecoder(response.Body).Decode(&now); err != nil {
		t.Fatal(err)
	}
	return now
}

// operator is somebody who operates the platform.
func (p *platform) operator(t *testing.T, subject string) person {
	t.Helper()
	who := p.signIn(t, subject)
	p.exec(t, `INSERT INTO platform_admins (user_id, source, granted_by) SELECT id, 'appointed', id FROM users WHERE username = $1`, subject)
	return who
}

func (p *platform) text(t *testing.T, sql string, arguments ...any) (value string) {
	t.Helper()
	if err := p.Owner.QueryRow(t.Context(), sql, arguments...).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

// A tenant who is logged in on a node is out within five seconds of being suspended and stays out; the meter stands still,
// the files stay; restored, they log in with the key they had, and pay for nothing in between.
func TestASuspensionCutsSSHAndStopsTheMeter(t *testing.T) {
	p := newPlatform(t, 0)
	config, trust := authority(t)
	gateway := p.replica(t, gateways(config)).gateway
	fleet := p.fleet(t, 1, gateway, trust, time.Minute)
	p.exec(t, `INSERT INTO policy_values (key, version, value, actor_user_id) VALUES ('billing.window_seconds', 1, '1', 'platform')`)
	alice, root := p.signIn(t, "alice"), p.operator(t, "root")
	signer, key := sshtest.NewKey(t)
	body := fmt.Sprintf(`{"sku":%q,"name":"train","ssh_keys":[%q]}`, crowdSKU, key)
	made, err := replica{url: p.url}.post(t.Context(), alice, "/api/v1/allocations", "key", body)
	if err != nil || made.status != 201 {
		t.Fatalf("it answers %+v, %v", made, err)
	}
	p.reach(t, made.body.ID, "active", 30*time.Second)
	access := p.show(t, alice, made.body.ID).SSH
	login := node.UserProvisionOut{Username: access.Username, SSHHost: access.Host, SSHPort: access.Port, SSHHostKey: access.HostKey}
	guest, err := sshtest.LogIn(t, login, signer)
	if err != nil {
		t.Fatal(err)
	}
	sshtest.Say(t, guest, "touch model.bin")
	out := make(chan struct{})
	go func() { _ = guest.Wait(); close(out) }()

	tenant := p.text(t, `SELECT tenant_id FROM users WHERE username = 'alice'`)
	operate := func(verb, key string) {
		t.Helper()
		did, err := replica{url: p.url}.post(t.Context(), root, "/api/v1/admin/tenants/"+tenant+"/"+verb, key, `{"reason":"unpaid"}`)
		if err != nil || did.status != 200 {
			t.Fatalf("%s answers %+v, %v", verb, did, err)
		}
	}
	operate("suspend", "s1")
	select {
	case <-out:
	case <-time.After(cutWithin):
		t.Fatalf("the session goes on %v after the suspension", cutWithin)
	}
	if _, err := sshtest.LogIn(t, login, signer); err == nil {
		t.Fatal("a suspended tenant logs in")
	}
	suspended := p.show(t, root, made.body.ID)
	if suspended.State != "active" || suspended.SuspendedAt == nil {
		t.Fatalf("the allocation is %+v", suspended)
	}
	held := func() int { return p.count(t, `SELECT count(*) FROM ledger_entries`) }
	entries := held()
	temporaltest.Eventually(t, 30*time.Second, func() error { // three windows that would have been billed
		if gone := time.Since(*suspended.SuspendedAt); gone < 3*time.Second {
			return fmt.Errorf("suspended for %v", gone)
		}
		return nil
	})
	if later := p.show(t, root, made.body.ID); later.CostMicros != suspended.CostMicros || held() != entries {
		t.Errorf("the cost went from %d to %d, the ledger from %d to %d", suspended.CostMicros, later.CostMicros, entries, held())
	}
	if files := fleet.Nodes()[0].State().Files; len(files) < 3 {
		t.Errorf("the node has %v left", files)
	}

	operate("restore", "r1")
	temporaltest.Eventually(t, 20*time.Second, func() error {
		if now := p.show(t, root, made.body.ID); now.SuspendedAt != nil {
			return errors.New("it is suspended still")
		}
		return nil
	})
	if again, err := sshtest.LogIn(t, login, signer); err != nil {
		t.Errorf("after it was restored: %v", err)
	} else {
		_ = again.Close()
	}
	temporaltest.Eventually(t, 20*time.Second, func() error {
		if now := held(); now < entries+4 {
			return fmt.Errorf("the ledger has %d entries and had %d: the meter does not run", now, entries)
		}
		return nil
	})
	// The meter of the tenant's own clock: what is billed is the time outside of the suspension, exactly.
	if released, err := (replica{url: p.url}).post(t.Context(), alice, "/api/v1/allocations/"+string(made.body.ID)+"/release", "end", ""); err != nil || released.status != 202 {
		t.Fatalf("the release answers %+v, %v", released, err)
	}
	p.reach(t, made.body.ID, "released", 30*time.Second)
	wrong := p.text(t, `WITH bill AS (
			SELECT coalesce(sum(amount_micros) FILTER (WHERE kind = 'usage'), 0) - coalesce(sum(amount_micros) FILTER (WHERE kind <> 'usage'), 0) AS billed,
				min(period_start) FILTER (WHERE kind = 'suspension_credit') AS cut, max(period_end) FILTER (WHERE kind = 'suspension_credit') AS back,
				count(*) FILTER (WHERE kind = 'suspension_credit') AS credits
			FROM ledger_entries WHERE allocation_id = $1)
		SELECT concat_ws(' ', billed, cut, back, credits) FROM bill, allocations AS a WHERE a.id = $1 AND NOT (
			credits = 1 AND cut = $2 AND billed =
			floor(3600000 * round(extract(epoch FROM cut - metered_from) * 1000) / 3600000)
			+ floor(3600000 * round(extract(epoch FROM metered_to - metered_from) * 1000) / 3600000)
			- floor(3600000 * round(extract(epoch FROM back - metered_from) * 1000) / 3600000))
		UNION ALL SELECT '' LIMIT 1`, string(made.body.ID), *suspended.SuspendedAt)
	if wrong != "" {
		t.Errorf("the bill is wrong: %s", wrong)
	}
	if open := p.text(t, `SELECT count(*)::text FROM allocations WHERE suspended_at IS NOT NULL`); open != "0" {
		t.Errorf("%s allocations that ended are suspended", open)
	}
}

// Whoever was let in again on the database itself, beside the workflow that suspended them, restores themselves, and what they run goes on.
func TestWhoWasLetInBesideASuspensionIsRestored(t *testing.T) {
	p := newPlatform(t, 1)
	root := p.operator(t, "root")
	ada := p.operator(t, "ada")
	adas := p.text(t, `SELECT id FROM users WHERE username = 'ada'`)
	made, err := p.ask(t.Context(), ada, "key")
	if err != nil || made.status != 201 {
		t.Fatalf("it answers %+v, %v", made, err)
	}
	p.reach(t, made.body.ID, "active", 30*time.Second)
	operate := func(who person, verb, key string) int {
		t.Helper()
		did, err := replica{url: p.url}.post(t.Context(), who, "/api/v1/admin/users/"+adas+"/"+verb, key, `{"reason":"a mistake"}`)
		if err != nil {
			t.Fatal(err)
		}
		return did.status
	}
	suspended := func(want bool) {
		t.Helper()
		temporaltest.Eventually(t, 20*time.Second, func() error {
			if now := p.show(t, root, made.body.ID); (now.SuspendedAt != nil) != want || now.State != "active" {
				return fmt.Errorf("it is %+v", now)
			}
			return nil
		})
	}
	if status := operate(root, "restore", "r0"); status != http.StatusConflict {
		t.Errorf("restoring whom nobody suspended answers %d", status)
	}
	if status := operate(root, "suspend", "s1"); status != http.StatusOK {
		t.Fatalf("suspending answers %d", status)
	}
	suspended(true)
	if err := process.RunAppointAdmin(t.Context(), process.AppointAdminConfig{
		OwnerURL: p.OwnerURL, Issuer: p.issuer.server.URL, Subject: "ada", Reason: "the way back in", Log: process.LogConfig{Logger: slog.New(slog.DiscardHandler)},
	}); err != nil {
		t.Fatal(err)
	}
	suspended(true)
	if status := operate(ada, "restore", "r1"); status != http.StatusOK {
		t.Fatalf("restoring whom the database let in answers %d", status)
	}
	suspended(false)
	if status := operate(ada, "restore", "r2"); status != http.StatusConflict {
		t.Errorf("restoring once more answers %d", status)
	}
}
