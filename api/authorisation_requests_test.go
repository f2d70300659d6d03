//go:build integration

package api_test

import (
	"fmt"
	"maps"
	"time"

	"github.com/gpuaas/gpuaas/api"
	"github.com/gpuaas/gpuaas/internal/redis/redistest"
)

// recipes say how each operation is asked, with an object of its own wherever a success would use the object up. caller tells for
// whom: what only succeeds once is made anew for whoever may do it.
func (s *scene) recipes() map[string]func(caller string) subject {
	all := map[string]func(string) subject{}
	for _, part := range []map[string]func(string) subject{s.plainRequests(), s.allocationRequests(), s.nodeRequests(), s.policyRequests(), s.operatorRequests(), s.tenancyRequests(), s.tokenRequests(), s.closingRequests(), s.paymentRequests(), s.eventRequests(),
		s.webhookRequests(), s.reconciliationRequests()} {
		maps.Copy(all, part)
	}
	return all
}

// always is a request that may be repeated for ever.
func always(about subject) func(string) subject { return func(string) subject { return about } }

func (s *scene) plainRequests() map[string]func(string) subject {
	here := "?tenant_id=" + s.tenant
	requests := map[string]func(string) subject{}
	for _, operation := range []string{"getHealth", "getReadiness", "getResourceMetadata", "getMe", "listSkus", "listUsers", "listAccounts", "verifyLedger", "listNodes", "listPolicies", "adminListAllocations"} {
		requests[operation] = always(subject{})
	}
	for _, operation := range []string{"listAllocations", "getBalance", "getRunway", "listLedgerEntries", "getUsage", "listStatements"} {
		requests[operation] = always(subject{query: here})
	}
	month := map[string]string{"month": time.Now().UTC().Format("2006-01")}
	requests["getStatement"] = always(subject{path: month, query: here})
	requests["getStatementDocument"] = always(subject{path: month, query: here + "&format=csv"})
	requests["getSession"], requests["signOut"] = always(subject{}), always(subject{})
	maps.Copy(requests, s.passwordRequests())
	requests["getSku"] = always(subject{path: map[string]string{"sku": "h100-8x"}})
	requests["listSkuPrices"] = requests["getSku"]
	requests["putSku"] = always(subject{path: map[string]string{"sku": "l40s-4x"}, body: `{"name":"4 × NVIDIA L40S","gpu_model":"NVIDIA L40S","gpu_count":4,
		"gpu_memory_bytes":51539607552,"cpu_model":"AMD EPYC 9354","cpu_count":64,"memory_bytes":549755813888,"disk_bytes":7696581394432,
		"os_image":"ubuntu-24.04","cuda_version":"12.8","location":"dev-1"}`})
	requests["addSkuPrice"] = func(string) subject {
		s.made++
		return subject{path: map[string]string{"sku": "h100-8x"}, body: fmt.Sprintf(`{"currency":"usd","rate_micros_per_hour":3600000,"valid_from":"2099-01-01T00:00:%02d.000Z"}`, s.made%60)}
	}
	requests["getPolicy"] = always(subject{path: map[string]string{"key": "allocation.max_labels"}})
	requests["setPolicy"] = always(subject{path: map[string]string{"key": "allocation.max_labels"}, body: `{"value":31,"reason":"matrix"}`})
	requests["getAccountBalance"] = always(subject{path: map[string]string{"account_id": s.account}})
	requests["createAdjustment"] = always(subject{path: map[string]string{"account_id": s.account}, body: `{"amount_minor":100,"currency":"usd","reason":"matrix"}`})
	return requests
}

// passwordRequests ask an API with the development stack's issuer behind it and passwords switched on: the scene's issuer knows none.
func (s *scene) passwordRequests() map[string]func(string) subject {
	d := newDoorway(s.t, redistest.Config(s.t), true, func(config *api.Config) {
		_, err := config.Pool.Exec(s.t.Context(), `INSERT INTO policy_values (key, version, value, actor_user_id)
			VALUES ('rate_limit.unauthenticated_requests_per_minute', 1, '100000', 'platform')`)
		if err != nil {
			s.t.Fatal(err)
		}
	})
	logIn := subject{at: d.url, body: `{"username":"dev-user","password":"dev123"}`}
	return map[string]func(string) subject{
		"logIn": always(logIn),
		"refreshToken": func(string) subject {
			s.made++
			first := s.send("POST", "/api/v1/auth/login", "", fmt.Sprintf("log-in-%03d", s.made), logIn)
			return subject{at: d.url, body: fmt.Sprintf(`{"refresh_token":%q,"client_id":"gpuaas-api"}`, first.text("refresh_token"))}
		},
	}
}

func (s *scene) allocationRequests() map[string]func(string) subject {
	requests := map[string]func(string) subject{}
	standing := subject{path: map[string]string{"allocation_id": s.allocation}}
	for _, operation := range []string{"getAllocation", "getAllocationTimeline", "explainAllocation", "waitAllocation"} {
		requests[operation] = always(standing)
	}
	requests["createAllocation"] = always(subject{body: `{"sku":"h100-8x","project_id":"` + s.project + `"}`})
	mayEnd := map[string]bool{"user": true, "admin": true, "owner": true, "platform_admin": true}
	ending := func(body string) func(string) subject {
		return func(caller string) subject {
			about := subject{path: standing.path, body: body}
			if mayEnd[caller] {
				about.path = map[string]string{"allocation_id": s.launch()}
			}
			return about
		}
	}
	requests["releaseAllocation"] = ending("")
	requests["forceReleaseAllocation"] = ending(`{"reason":"matrix"}`)
	return requests
}

func (s *scene) nodeRequests() map[string]func(string) subject {
	requests := map[string]func(string) subject{}
	reason := `{"reason":"matrix"}`
	requests["createNodeEnrolToken"] = func(string) subject {
		s.made++
		return subject{body: fmt.Sprintf(`{"sku":"h100-8x","hostname":"new-%03d"}`, s.made)}
	}
	// A node that an order does not fit is put into the standing that it fits first.
	for operation, before := range map[string]string{"getNode": "", "cordonNode": "", "drainNode": "", "quarantineNode": "", "denyNode": "",
		"uncordonNode": "cordon", "unquarantineNode": "quarantine"} {
		requests[operation] = func(caller string) subject {
			nodeID := s.enlist()
			if before != "" && caller == "platform_admin" {
				if set := s.ask("POST", "/api/v1/admin/nodes/"+nodeID+"/"+before, s.credentials["platform_admin"], "", reason); set.status != 200 {
					s.t.Fatalf("%s: answered %d %s", before, set.status, set.body)
				}
			}
			about := subject{path: map[string]string{"node_id": nodeID}, body: reason}
			if operation == "getNode" {
				about.body = ""
			}
			return about
		}
	}
	return requests
}
