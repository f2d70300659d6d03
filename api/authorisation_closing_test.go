//go:build integration

package api_test

import (
	"fmt"
	"strings"
)

// closingRequests ask about a tenant of its own wherever it would be closed.
func (s *scene) closingRequests() map[string]func(string) subject {
	requests := map[string]func(string) subject{}
	// A tenant that olga owns too, for whoever may; the tenant that everybody acts in for the others.
	mayEnd := map[string]bool{"owner": true, "platform_admin": true}
	closing := func(verb string) func(string) subject {
		return func(caller string) subject {
			tenantID := s.tenant
			if mayEnd[caller] {
				tenantID = s.field(`SELECT tenant_id FROM users WHERE id = $1`, s.newcomer())
				s.exec(`INSERT INTO tenant_members (tenant_id, user_id, role, source) SELECT $1, id, 'owner', 'operator' FROM users WHERE username = 'olga'`, tenantID)
				// The API hears of it a moment after the row was written.
				s.eventually("olga owns it", 200, func() reply { return s.ask("GET", "/api/v1/tenants/"+tenantID, s.credentials["owner"], "", "") })
			}
			if mayEnd[caller] && strings.HasSuffix(verb, "eopenTenant") {
				s.exec(`UPDATE tenants SET status = 'closed', erase_at = now() + interval '1 day' WHERE id = $1`, tenantID)
			}
			return subject{path: map[string]string{"tenant_id": tenantID}, body: matrixReason}
		}
	}
	for _, operation := range []string{"closeTenant", "reopenTenant", "adminCloseTenant", "adminReopenTenant"} {
		requests[operation] = closing(operation)
	}
	requests["exportTenant"] = always(subject{path: map[string]string{"tenant_id": s.tenant}})
	requests["exportMe"], requests["listRefundsDue"] = always(subject{}), always(subject{})
	requests["deleteMe"] = func(caller string) subject {
		if caller == "denied" {
			return subject{}
		}
		return subject{token: s.twin(caller)}
	}
	return requests
}

// rolesHere are the callers' roles in the tenant.
var rolesHere = map[string]string{"user": "member", "member": "member", "viewer": "viewer", "billing": "billing", "admin": "admin", "owner": "owner"}

// twin is the token of somebody new with the caller's role in the tenant, if any, and the caller's at the platform, who has closed the
// tenant that was theirs alone: nothing depends on them.
func (s *scene) twin(caller string) string {
	s.t.Helper()
	userID := s.newcomer()
	name := s.field(`SELECT username FROM users WHERE id = $1`, userID)
	token := s.token(name)
	if caller == "platform_admin" {
		token = s.token(name, "admin")
	}
	own := s.field(`SELECT tenant_id FROM users WHERE id = $1`, userID)
	if role, member := rolesHere[caller]; member {
		s.exec(`INSERT INTO tenant_members (tenant_id, user_id, role, source) VALUES ($1, $2, $3, 'operator')`, s.tenant, userID, role)
	}
	s.made++
	if closed := s.ask("POST", "/api/v1/tenants/"+own+"/close", token, fmt.Sprintf("close-%03d", s.made), matrixReason); closed.status != 200 {
		s.t.Fatalf("the twin's own tenant is closed with %d %s", closed.status, closed.body)
	}
	return token
}
