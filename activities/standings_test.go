//go:build integration

package activities_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gpuaas/gpuaas/activities"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/workflows"
)

func order(subject workflows.Subject, request string) workflows.StandingChange {
	return workflows.StandingChange{
		Subject: subject, Actor: identity.Actor{ID: "user_operator", Role: identity.RoleAdmin}, Reason: "unpaid", RequestID: request, CorrelationID: "c",
	}
}

func TestAStandingChangesOnceForItsRequest(t *testing.T) {
	w := newWorld(t, 0)
	ada := w.tenant("ada", 0)
	s := &activities.Standings{Pool: w.App}
	for name, subject := range map[string]workflows.Subject{"tenant": {TenantID: ada.TenantID}, "user": {UserID: ada.UserID}} {
		conflict := map[string]fault.Code{"tenant": fault.TenantStateConflict, "user": fault.UserStateConflict}[name]
		if _, err := s.Restore(t.Context(), order(subject, name+"0")); !errors.Is(err, conflict) {
			t.Errorf("restoring a %s in good standing: %v", name, err)
		}
		first, err := s.Suspend(t.Context(), order(subject, name+"1"))
		if err != nil || !first.Suspended || first.ReleaseAt.Sub(first.At) != 7*24*time.Hour {
			t.Fatalf("a %s is suspended so: %+v, %v", name, first, err)
		}
		if again, err := s.Suspend(t.Context(), order(subject, name+"1")); err != nil || again != first {
			t.Errorf("a repeat answers %+v, %v", again, err)
		}
		if _, err := s.Suspend(t.Context(), order(subject, name+"2")); !errors.Is(err, conflict) {
			t.Errorf("suspending a suspended %s: %v", name, err)
		}
		if back, err := s.Restore(t.Context(), order(subject, name+"3")); err != nil || back.Suspended {
			t.Errorf("restoring a %s answers %+v, %v", name, back, err)
		}
		if rows := w.count(`SELECT count(*) FROM audit_logs WHERE target_type = $1 AND actor_user_id = 'user_operator'`, name); rows != 2 {
			t.Errorf("%d rows tell of two changes of a %s", rows, name)
		}
	}
	if _, err := s.Suspend(t.Context(), order(workflows.Subject{TenantID: newID[id.Tenant]()}, "x")); !errors.Is(err, fault.TenantNotFound) {
		t.Errorf("a tenant that is not there: %v", err)
	}
	if _, err := s.Suspend(t.Context(), order(workflows.Subject{UserID: newID[id.User]()}, "y")); !errors.Is(err, fault.UserNotFound) {
		t.Errorf("a user who is not there: %v", err)
	}
}

// Whatever is admitted while a suspension is written was admitted before it, and is found by it.
func TestASuspensionFindsEverythingThatWasAdmittedBeforeIt(t *testing.T) {
	const asked = 24
	for _, of := range []string{"tenant", "user"} {
		t.Run(of, func(t *testing.T) {
			w := newWorld(t, asked)
			ada := w.tenant("ada", 100*runwayOfOne)
			subject, refused := workflows.Subject{TenantID: ada.TenantID}, fault.TenantSuspended
			if of == "user" {
				subject, refused = workflows.Subject{UserID: ada.UserID}, fault.UserSuspended
			}
			s := &activities.Standings{Pool: w.App}
			admitted := make([]id.Allocation, asked)
			var group errgroup.Group
			for i := range asked {
				group.Go(func() error {
					reply, err := w.tools.Admit(t.Context(), request(ada, fmt.Sprintf("k%d", i)))
					switch {
					case err != nil:
						return err
					case reply.Admitted:
						admitted[i] = reply.Terms.Lease.AllocationID
					case reply.Fault.Code != string(refused):
						return fmt.Errorf("it is refused with %s", reply.Fault.Code)
					}
					return nil
				})
				if i == asked/2 {
					group.Go(func() error {
						if _, err := s.Suspend(t.Context(), order(subject, "now")); err != nil {
							return err
						}
						found, err := everythingUnder(t, s, subject)
						if err != nil {
							return err
						}
						if held := w.count(`SELECT count(*) FROM allocations`); held != len(found) {
							return fmt.Errorf("%d allocations stand after the suspension, and it found %d", held, len(found))
						}
						return nil
					})
				}
			}
			if err := group.Wait(); err != nil {
				t.Fatal(err)
			}
			found, err := everythingUnder(t, s, subject)
			if err != nil {
				t.Fatal(err)
			}
			for _, one := range admitted {
				if one != "" && !slices.Contains(found, one) {
					t.Errorf("%s was admitted and is not found", one)
				}
			}
			if reply := w.admit(request(ada, "after")); reply.Fault == nil || reply.Fault.Code != string(refused) {
				t.Errorf("afterwards it answers %+v", reply)
			}
		})
	}
}

// everythingUnder reads all pages, of three each.
func everythingUnder(t *testing.T, s *activities.Standings, subject workflows.Subject) ([]id.Allocation, error) {
	t.Helper()
	in, found := workflows.AllocationsUnderIn{Subject: subject, Limit: 3}, []id.Allocation{}
	for {
		page, err := s.AllocationsUnder(t.Context(), in)
		if err != nil {
			return nil, err
		}
		found = append(found, page.Allocations...)
		if len(page.Allocations) < in.Limit {
			return found, nil
		}
		in.After = page.Allocations[len(page.Allocations)-1]
	}
}

func TestASuspendedMeterAccruesNothing(t *testing.T) {
	w := newWorld(t, 2)
	ada := w.tenant("ada", 2*runwayOfOne+10*microsASecond)
	_, terms := w.mustAdmit(ada, "k1")
	anchor := w.now
	w.exec(`UPDATE allocations SET state = 'provisioning', version = 2 WHERE id = $1`, terms.Lease.AllocationID)
	w.exec(`UPDATE allocations SET state = 'active', version = 3, metered_from = $2 WHERE id = $1`, terms.Lease.AllocationID, anchor)
	at := anchor.Add(time.Second)
	record := workflows.RecordSuspensionIn{
		AllocationID: terms.Lease.AllocationID, TenantID: ada.TenantID, At: &at, Since: at,
		Actor: identity.Platform(), Reason: "unpaid", CorrelationID: "c",
	}
	for range 2 {
		if _, err := w.tools.RecordSuspension(t.Context(), record); err != nil {
			t.Fatal(err)
		}
	}
	w.now = anchor.Add(30 * 24 * time.Hour)
	if reply := w.admit(request(ada, "k2")); !reply.Admitted {
		t.Errorf("a month of suspension leaves no runway: %+v", reply.Fault)
	}
	record.At = nil
	for range 2 {
		if _, err := w.tools.RecordSuspension(t.Context(), record); err != nil {
			t.Fatal(err)
		}
	}
	// A step that was given up and arrives after the end of its suspension begins none.
	late := record
	late.At = &at
	if _, err := w.tools.RecordSuspension(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	if w.count(`SELECT count(*) FROM allocations WHERE id = $1 AND suspended_at IS NOT NULL`, terms.Lease.AllocationID) != 0 {
		t.Error("a suspension that has ended began again")
	}
	if rows := w.count(`SELECT count(*) FROM audit_logs WHERE action IN ('allocation.suspended', 'allocation.resumed') AND tenant_id = $1`, ada.TenantID); rows != 2 {
		t.Errorf("%d rows tell of one suspension and its end", rows)
	}
	if reply := w.admit(request(ada, "k3")); reply.Admitted {
		t.Error("a month of use left a runway")
	}
}
