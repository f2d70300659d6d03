//go:build integration

package policy_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/identity"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/store/storetest"
)

var someone = policy.Order{Actor: identity.Actor{ID: "user_a", Role: identity.RoleAdmin}, Reason: "why", CorrelationID: "c"}

func to(name, value string) policy.Change {
	return policy.Change{Name: name, Value: json.RawMessage(value)}
}

func TestAPairThatBoundsEachOtherMovesTogetherOrNotAtAll(t *testing.T) {
	database := storetest.New(t)
	client := policy.New(database.App)
	low, high := "billing.minimum_deposit_minor", "billing.maximum_deposit_minor"
	if _, err := client.Set(t.Context(), someone, to(low, "200000")); !errors.Is(err, fault.PolicyCombinationRefused) {
		t.Errorf("the minimum alone answers %v", err)
	}
	if set, err := client.Set(t.Context(), someone, to(low, "200000"), to(high, "300000")); err != nil || len(set) != 2 {
		t.Fatalf("both answer %v, %v", set, err)
	}
	if set, err := client.Set(t.Context(), someone, to(low, "100"), to(high, "200")); err != nil || string(set[1].Value) != "200" {
		t.Fatalf("both, back, answer %v, %v", set, err)
	}
	for name, changes := range map[string][]policy.Change{
		"one does not fit":      {to(low, "60"), to(high, "10")},
		"one is no key":         {to(low, "60"), to("no.such_key", "1")},
		"they do not fit":       {to(low, "900"), to(high, "800")},
		"one is named twice":    {to(low, "60"), to(low, "70")},
		"one is at another one": {to(low, "60"), {Name: high, Value: json.RawMessage("300"), ExpectedVersion: new(int64)}},
	} {
		if _, err := client.Set(t.Context(), someone, changes...); err == nil {
			t.Errorf("although %s it is set", name)
		}
	}
	if got, err := client.Int(t.Context(), authored.BillingMinimumDepositMinor); err != nil || got != 100 {
		t.Errorf("the minimum is %d, %v", got, err)
	}
	checkAudit(t, database, 2)
}

func TestRollback(t *testing.T) {
	database := storetest.New(t)
	client := policy.New(database.App)
	name := "billing.window_seconds"
	for _, value := range []string{"30", "20", "10"} {
		if _, err := client.Set(t.Context(), someone, to(name, value)); err != nil {
			t.Fatal(err)
		}
	}
	three, four := int64(3), int64(4)
	for _, one := range []struct {
		version  int64
		expected *int64
		want     string
		refused  fault.Code
	}{
		{1, &four, "", fault.PolicyVersionConflict},
		{1, &three, "30", ""},
		{9, nil, "", fault.PolicyVersionNotFound},
		{0, nil, "60", ""},
		{4, nil, "30", ""},
	} {
		set, err := client.Rollback(t.Context(), someone, name, one.version, one.expected)
		if fault.CodeOf(err) != one.refused || err == nil && string(set.Value) != one.want {
			t.Errorf("back to version %d answers %s, %v", one.version, set.Value, err)
		}
	}
	versions, err := client.History(t.Context(), name, math.MaxInt64, 4)
	if err != nil || len(versions) != 4 || versions[0].Version != 6 || string(versions[0].Value) != "30" || versions[3].Version != 3 {
		t.Errorf("the history begins with %v, %v", versions, err)
	}
	rest, err := client.History(t.Context(), name, versions[3].Version, 10)
	if err != nil || len(rest) != 2 || rest[1].Version != 1 {
		t.Errorf("it goes on with %v, %v", rest, err)
	}
	if _, err := client.History(t.Context(), "no.such_key", math.MaxInt64, 1); !errors.Is(err, fault.PolicyNotFound) {
		t.Errorf("the history of no key answers %v", err)
	}
	checkAudit(t, database, 1)
}

// A request that lost its answer is repeated, and changes nothing again.
func TestARepeatedRequestAnswersWhatItSet(t *testing.T) {
	client := policy.New(storetest.New(t).App)
	order := someone
	order.RequestID = "request-1"
	changes := []policy.Change{to("billing.minimum_deposit_minor", "200000"), to("billing.maximum_deposit_minor", "300000")}
	for range 2 {
		set, err := client.Set(t.Context(), order, changes...)
		if err != nil || len(set) != 2 || set[0].Version != 1 || set[1].Version != 1 || string(set[1].Value) != "300000" {
			t.Errorf("%v, %v", set, err)
		}
	}
}

func TestADangerousCombinationIsRefusedInEitherOrderAndOnTheWayBack(t *testing.T) {
	client := policy.New(storetest.New(t).App)
	isolation, maas := "allocation.isolation_model", "maas.enabled"
	set := func(want fault.Code, changes ...policy.Change) {
		t.Helper()
		if _, err := client.Set(t.Context(), someone, changes...); fault.CodeOf(err) != want {
			t.Errorf("%v answers %v, not %q", changes, err, want)
		}
	}
	back := func(want fault.Code, name string, version int64) {
		t.Helper()
		if _, err := client.Rollback(t.Context(), someone, name, version, nil); fault.CodeOf(err) != want {
			t.Errorf("%s back to %d answers %v, not %q", name, version, err, want)
		}
	}
	set(fault.PolicyCombinationRefused, to(isolation, `"full-reimage"`))
	set("", to(isolation, `"full-reimage"`), to(maas, "true"))
	set(fault.PolicyCombinationRefused, to(maas, "false"))
	back(fault.PolicyCombinationRefused, maas, 0)
	set("", to(isolation, `"user-revoke"`), to(maas, "false"))
	back(fault.PolicyCombinationRefused, isolation, 1)
	set("", to(maas, "true"))
	back("", isolation, 1)
	back(fault.PolicyCombinationRefused, maas, 2)
}

// A newer release may accept less than what an older one let somebody set: written here as the older one did.
func TestARangeNeverBlocksTheWayBack(t *testing.T) {
	database := storetest.New(t)
	client := policy.New(database.App)
	for _, row := range []struct {
		key     string
		version int
		value   string
	}{
		{"billing.window_seconds", 1, "30"}, {"billing.window_seconds", 2, "86400"}, {"maas.enabled", 1, `"perhaps"`}, {"allocation.isolation_model", 1, `"hope"`},
		// With the maximum unfit, its default holds, and the minimum exceeds that.
		{"billing.minimum_deposit_minor", 1, "200000"}, {"billing.maximum_deposit_minor", 1, "900000000"},
	} {
		if _, err := database.Owner.Exec(t.Context(), "INSERT INTO policy_values (key, version, value, actor_user_id) VALUES ($1, $2, $3::jsonb, 'user_a')", row.key, row.version, row.value); err != nil {
			t.Fatal(err)
		}
	}
	settings, err := client.List(t.Context())
	if err != nil || len(settings) != len(authored.All()) {
		t.Fatalf("%d are listed, %v", len(settings), err)
	}
	setting, err := client.Get(t.Context(), "billing.window_seconds")
	if err != nil || string(setting.Value) != "60" || string(setting.Unfit) != "86400" || setting.Version != 2 {
		t.Errorf("the window is %+v, %v", setting, err)
	}
	versions, err := client.History(t.Context(), "billing.window_seconds", math.MaxInt64, 9)
	if err != nil || len(versions) != 2 || versions[0].Fits || !versions[1].Fits {
		t.Errorf("its history is %v, %v", versions, err)
	}
	if _, err := client.Rollback(t.Context(), someone, "billing.window_seconds", 2, nil); !errors.Is(err, fault.PolicyValueInvalid) {
		t.Errorf("back to what does not fit answers %v", err)
	}
	if back, err := client.Rollback(t.Context(), someone, "billing.window_seconds", 1, nil); err != nil || string(back.Value) != "30" || back.Unfit != nil {
		t.Errorf("back to what fits answers %+v, %v", back, err)
	}
	for _, change := range []policy.Change{to("maas.enabled", "true"), to("allocation.isolation_model", `"full-reimage"`), to("billing.runway_seconds", "5")} {
		if _, err := client.Set(t.Context(), someone, change); err != nil {
			t.Errorf("%s cannot be set: %v", change.Name, err)
		}
	}
	if _, err := client.Set(t.Context(), someone, to("billing.maximum_deposit_minor", "150000")); !errors.Is(err, fault.PolicyCombinationRefused) {
		t.Errorf("a maximum below the minimum answers %v", err)
	}
	if _, err := client.Set(t.Context(), someone, to("billing.maximum_deposit_minor", "250000")); err != nil {
		t.Errorf("a maximum above the minimum answers %v", err)
	}
}

// Every process has a client and a pool of its own; what one sets, another reads within seconds.
func TestAChangeArrivesInEveryProcess(t *testing.T) {
	database := storetest.New(t)
	other, err := store.Open(t.Context(), database.App.Config().ConnString(), store.MaxConnections(2))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	here, there := policy.New(database.App), policy.New(other)
	if window, err := there.Int(t.Context(), authored.BillingWindowSeconds); err != nil || window != 60 {
		t.Fatalf("%d, %v", window, err)
	}
	if _, err := here.Set(t.Context(), someone, to("billing.window_seconds", "30")); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		window, err := there.Int(ctx, authored.BillingWindowSeconds)
		if err != nil {
			t.Fatal(err)
		}
		if window == 30 {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatal("the change did not arrive within four seconds")
		case <-tick.C:
		}
	}
	t.Logf("it arrived after %s", time.Since(began))
}

func TestOfTwoAdminsAtOnceOneIsTold(t *testing.T) {
	database := storetest.New(t)
	client := policy.New(database.App)
	const admins = 8
	answers := make(chan error, admins)
	var start sync.WaitGroup
	start.Add(1)
	for i := range admins {
		go func() {
			start.Wait()
			_, err := client.Set(t.Context(), someone, policy.Change{Name: "billing.window_seconds", Value: json.RawMessage(strconv.Itoa(10 + i)), ExpectedVersion: new(int64)})
			answers <- err
		}()
	}
	start.Done()
	won := 0
	for range admins {
		switch err := <-answers; {
		case err == nil:
			won++
		case !errors.Is(err, fault.PolicyVersionConflict):
			t.Errorf("a late one is told %v", err)
		}
	}
	if won != 1 {
		t.Errorf("%d of %d changed the same version", won, admins)
	}
	checkAudit(t, database, 1)
}

// Whatever administrators do, one after another: what is in force goes together, and each version has one audit row.
func TestAnySequenceOfChangesLeavesAStateThatGoesTogether(t *testing.T) {
	database := storetest.New(t)
	client := policy.New(database.App)
	names := []string{
		"billing.minimum_deposit_minor", "billing.maximum_deposit_minor", "release.backoff_initial_seconds", "release.backoff_maximum_seconds",
		"allocation.isolation_model", "maas.enabled",
	}
	draw := func(t *rapid.T) policy.Change {
		name := rapid.SampledFrom(names).Draw(t, "key")
		value := rapid.SampledFrom([]string{"1", "49", "50", "60", "300", "301", "3600", "100000", "100000001", "true", "false", `"user-revoke"`, `"full-reimage"`, "null"}).Draw(t, "value")
		return to(name, value)
	}
	rapid.Check(t, func(rt *rapid.T) {
		for range rapid.IntRange(1, 6).Draw(rt, "steps") {
			var err error
			switch rapid.IntRange(0, 2).Draw(rt, "kind") {
			case 0:
				_, err = client.Set(t.Context(), someone, draw(rt))
			case 1:
				_, err = client.Set(t.Context(), someone, draw(rt), draw(rt), draw(rt))
			case 2:
				_, err = client.Rollback(t.Context(), someone, rapid.SampledFrom(names).Draw(rt, "key"), rapid.Int64Range(0, 4).Draw(rt, "version"), nil)
			}
			if err != nil && fault.CodeOf(err) == fault.InternalError {
				rt.Fatal(err)
			}
			values, err := policy.Read(t.Context(), database.App)
			if err != nil {
				rt.Fatal(err)
			}
			if err := values.Check(); err != nil {
				rt.Fatalf("what is in force does not go together: %v", err)
			}
		}
	})
	checkAudit(t, database, 3)
}

// checkAudit says whether each version that was written is told of by exactly one audit row, with its value, and no row tells
// of more; at least so many keys were changed.
func checkAudit(t *testing.T, database *storetest.Database, keys int) {
	t.Helper()
	var versions, told, rows, changed int
	if err := database.Owner.QueryRow(t.Context(), `
		SELECT count(*), count(*) FILTER (WHERE (
		         SELECT count(*) FROM audit_logs a WHERE a.target_type = 'policy' AND a.target_id = p.key AND a.details->>'version' = p.version::text
		           AND a.details->>'to' = p.value #>> '{}' AND a.result = 'success') = 1),
		       (SELECT count(*) FROM audit_logs WHERE target_type = 'policy'), count(DISTINCT key)
		FROM policy_values p`).Scan(&versions, &told, &rows, &changed); err != nil {
		t.Fatal(err)
	}
	if versions != told || rows != told || changed < keys {
		t.Errorf("%d versions of %d keys, %d of them told of once, %d audit rows", versions, changed, told, rows)
	}
}
