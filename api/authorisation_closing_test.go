//go:build integration

package api_test

import "strings"

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
	requests["exportMe"], requests["deleteMe"], requests["listRefundsDue"] = always(subject{}), always(subject{}), always(subject{})
	return requests
}
