// Package evidencetest makes a bundle that holds, for the tests of those who examine, seal and verify one. It imports
// domain/evidence.
package evidencetest

import (
	"encoding/json"

	"github.com/gpuaas/gpuaas/domain/allocation"
	"github.com/gpuaas/gpuaas/domain/evidence"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
)

func instant(text string) evidence.Instant {
	var at evidence.Instant
	if err := json.Unmarshal([]byte(`"`+text+`"`), &at); err != nil {
		panic(err) // a mistake in this file
	}
	return at
}

func maybe(text string) *evidence.Instant {
	at := instant(text)
	return &at
}

// Bundle is a released allocation at a micro a millisecond: two windows and a third that its end cut short, and a credit each for an
// outage and a suspension.
func Bundle() evidence.Bundle {
	const (
		tenant  = id.Account("acct_mfrggzdfmztwq2lknnwg23tpob")
		revenue = id.Account("acct_platformrevenueusdaaaaaaaa")
		node    = id.Node("node_mfrggzdfmztwq2lknnwg23tpob")
	)
	const from, first, second, third, end = "2026-01-05T09:30:00.250Z", "2026-01-05T09:31:00.250Z", "2026-01-05T09:32:00.250Z", "2026-01-05T09:33:00.250Z", "2026-01-05T09:32:30.250Z"
	usage := func(number int64, start, stop string) evidence.Entry {
		return evidence.Entry{
			ID: number, Kind: "usage", DebitAccountID: tenant, CreditAccountID: revenue, Currency: "usd", AmountMicros: 60_000,
			PeriodStart: maybe(start), PeriodEnd: maybe(stop), CreatedAt: instant(stop),
		}
	}
	credit := func(number int64, kind string, amount money.Micros, start, stop string) evidence.Entry {
		entry := usage(number, start, stop)
		entry.Kind, entry.DebitAccountID, entry.CreditAccountID, entry.AmountMicros = kind, revenue, tenant, amount
		return entry
	}
	arrow := func(version int64, before, after allocation.State, at string) evidence.Transition {
		return evidence.Transition{
			Version: version, FromState: before, ToState: after, At: instant(at), ActorID: "platform", ActorRole: "system", Reason: "as it goes",
			NodeID: node, CorrelationID: "c-1",
		}
	}
	return evidence.Bundle{
		Version: evidence.Version, IssuedAt: instant("2026-01-05T10:00:00.000Z"), Final: true,
		Allocation: evidence.Allocation{
			ID: "alloc_mfrggzdfmztwq2lknnwg23tpob", TenantID: "tenant_mfrggzdfmztwq2lknnwg23tpob", ProjectID: "proj_mfrggzdfmztwq2lknnwg23tpob",
			UserID: "user_mfrggzdfmztwq2lknnwg23tpob", AccountID: tenant, SKU: "h100-8x", Currency: "usd", PriceID: "price_mfrggzdfmztwq2lknnwg23tpob",
			RateMicrosPerHour: 3_600_000, WindowSeconds: 60, WindowsPerSettlement: 1, IsolationModel: "user-revoke", RuntimeMode: "agent", State: "released",
			NodeID: node, Generation: 3, RequestedAt: instant("2026-01-05T09:29:00.000Z"), MeteredFrom: maybe(from), MeteredTo: maybe(end),
			EndedAt: maybe("2026-01-05T09:35:00.000Z"), ReleaseCause: "tenant", FailureCode: "scrub_unverified", FailureMessage: "once", CorrelationID: "c-1",
		},
		Price: evidence.Price{ID: "price_mfrggzdfmztwq2lknnwg23tpob", SKU: "h100-8x", Currency: "usd", RateMicrosPerHour: 3_600_000, ValidFrom: instant("2026-01-01T00:00:00.000Z")},
		Transitions: []evidence.Transition{
			arrow(1, "", "requested", "2026-01-05T09:29:00.000Z"), arrow(2, "requested", "provisioning", "2026-01-05T09:29:01.000Z"),
			arrow(3, "provisioning", "active", from), arrow(4, "active", "releasing", end), arrow(5, "releasing", "released", "2026-01-05T09:35:00.000Z"),
		},
		Ledger: []evidence.Entry{
			usage(11, from, first), usage(12, first, second), usage(13, second, third), credit(14, "usage_credit", 30_000, end, third), credit(15, "outage_credit", 5_000, from, first),
			credit(16, "suspension_credit", 7_000, first, second),
		},
		Totals: evidence.Totals{UsageMicros: 180_000, UsageCreditMicros: 30_000, ForgivenMicros: 5_000, SuspendedMicros: 7_000, ChargeMicros: 150_000},
		Leases: []evidence.Lease{{
			NodeID: node, Generation: 3, Ordinal: 1, ClaimedAt: instant("2026-01-05T09:29:00.000Z"), GivenUpAt: maybe("2026-01-05T09:34:00.000Z"),
			ClosedAt: maybe("2026-01-05T09:35:00.000Z"), ClosedBy: "scrub_verify", Evidence: json.RawMessage(`{"checks":["no processes"]}`),
		}},
		Certificate:      &evidence.Certificate{Wiped: true, Statement: "Nothing is left.", Checks: []string{"no processes"}, Assurance: "user-revoke", NodeID: node, Generation: 3},
		NodeCertificates: []evidence.NodeCertificate{{NodeID: node, Serial: "5f0d", NotBefore: instant("2026-01-05T00:00:00.000Z"), NotAfter: instant("2026-01-06T00:00:00.000Z")}},
		Audit: []evidence.AuditRow{{
			ID: 4711, ActorUserID: "user_mfrggzdfmztwq2lknnwg23tpob", ActorRole: "user", Action: "allocation.create", Result: "success",
			Details: json.RawMessage(`{"sku":"h100-8x"}`), CorrelationID: "c-1", CreatedAt: instant("2026-01-05T09:29:00.000Z"),
		}},
	}
}
