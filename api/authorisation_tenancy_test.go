//go:build integration

package api_test

import "fmt"

// newcomer signs somebody new in and answers their user id.
func (s *scene) newcomer() string {
	s.t.Helper()
	s.made++
	name := fmt.Sprintf("newcomer-%03d", s.made)
	s.ask("GET", "/api/v1/me", s.token(name), "", "")
	return s.field(`SELECT id FROM users WHERE username = $1`, name)
}

// recruit makes somebody new a member of the tenant and answers their user id.
func (s *scene) recruit() string {
	s.t.Helper()
	userID := s.newcomer()
	s.exec(`INSERT INTO tenant_members (tenant_id, user_id, role, source) VALUES ($1, $2, 'member', 'operator')`, s.tenant, userID)
	return userID
}

// found makes a project of the tenant and answers its id.
func (s *scene) found() string {
	s.t.Helper()
	s.made++
	made := s.ask("POST", "/api/v1/projects", s.credentials["owner"], "", fmt.Sprintf(`{"tenant_id":%q,"name":"project-%03d"}`, s.tenant, s.made))
	if made.status != 201 {
		s.t.Fatalf("the scene's project is answered %d %s", made.status, made.body)
	}
	return made.text("id")
}

const matrixReason = `{"reason":"matrix"}`

func (s *scene) policyRequests() map[string]func(string) subject {
	requests := map[string]func(string) subject{}
	key := map[string]string{"key": "allocation.max_labels"}
	tenant := map[string]string{"tenant_id": s.tenant}
	requests["setPolicies"] = always(subject{body: `{"changes":[{"key":"allocation.max_labels","value":30}],"reason":"matrix"}`})
	requests["listPolicyVersions"] = always(subject{path: key})
	requests["rollbackPolicy"] = always(subject{path: key, body: `{"version":0,"reason":"matrix"}`})
	requests["listTenantPolicies"] = always(subject{path: tenant})
	requests["setTenantPolicies"] = always(subject{path: tenant, body: `{"changes":[{"key":"allocation.max_concurrent_per_user","value":200}],"reason":"matrix"}`})
	requests["listTenantPolicyVersions"] = always(subject{path: map[string]string{"tenant_id": s.tenant, "key": "allocation.max_concurrent_per_user"}})
	requests["listTenantPrices"] = always(subject{path: tenant})
	requests["setTenantPrice"] = func(string) subject {
		s.made++
		return subject{path: tenant, body: fmt.Sprintf(`{"sku":"a100-8x","currency":"usd","rate_micros_per_hour":3600000,"valid_from":"2098-01-01T00:%02d:%02d.000Z","reason":"matrix"}`, s.made/60%60, s.made%60)}
	}
	return requests
}

func (s *scene) operatorRequests() map[string]func(string) subject {
	requests := map[string]func(string) subject{}
	ofUser := func(userID string, body string) subject {
		return subject{path: map[string]string{"user_id": userID}, body: body}
	}
	ofTenant := subject{path: map[string]string{"tenant_id": s.tenant}}
	requests["createUser"] = func(string) subject {
		s.made++
		return subject{body: fmt.Sprintf(`{"issuer":%q,"username":"expected-%03d","reason":"matrix"}`, s.issuer, s.made)}
	}
	requests["getUser"] = func(string) subject { return ofUser(s.newcomer(), "") }
	requests["approveUser"] = func(string) subject {
		userID := s.newcomer()
		s.exec(`UPDATE users SET status = 'pending' WHERE id = $1`, userID)
		return ofUser(userID, matrixReason)
	}
	requests["suspendUser"] = func(string) subject { return ofUser(s.newcomer(), matrixReason) }
	requests["restoreUser"] = func(string) subject {
		userID := s.newcomer()
		s.exec(`UPDATE users SET status = 'suspended' WHERE id = $1`, userID)
		return ofUser(userID, matrixReason)
	}
	requests["listPlatformAdmins"] = always(subject{})
	requests["appointPlatformAdmin"] = func(string) subject {
		return subject{body: fmt.Sprintf(`{"user_id":%q,"reason":"matrix"}`, s.newcomer())}
	}
	requests["dismissPlatformAdmin"] = func(string) subject {
		userID := s.newcomer()
		s.exec(`INSERT INTO platform_admins (user_id, source, granted_by) VALUES ($1, 'appointed', 'platform')`, userID)
		return ofUser(userID, matrixReason)
	}
	requests["adminListTenants"] = always(subject{})
	requests["createTenant"] = func(string) subject {
		s.made++
		return subject{body: fmt.Sprintf(`{"org_id":"org-%03d","name":"Organisation","reason":"matrix"}`, s.made)}
	}
	requests["adminGetTenant"] = always(ofTenant)
	requests["setTenantOwner"] = func(string) subject {
		return subject{path: ofTenant.path, body: fmt.Sprintf(`{"user_id":%q,"reason":"matrix"}`, s.recruit())}
	}
	// Another tenant than the one that everybody acts in, and one for each asking.
	another := func(status string) func(string) subject {
		return func(string) subject {
			tenantID := s.field(`SELECT tenant_id FROM users WHERE id = $1`, s.newcomer())
			s.exec(`UPDATE tenants SET status = $2 WHERE id = $1`, tenantID, status)
			return subject{path: map[string]string{"tenant_id": tenantID}, body: matrixReason}
		}
	}
	requests["suspendTenant"], requests["restoreTenant"] = another("active"), another("suspended")
	requests["listAudit"] = always(subject{})
	return requests
}

func (s *scene) tenancyRequests() map[string]func(string) subject {
	requests := map[string]func(string) subject{}
	here := "?tenant_id=" + s.tenant
	ofTenant := subject{path: map[string]string{"tenant_id": s.tenant}}
	ofProject := subject{path: map[string]string{"project_id": s.project}}
	ofMember := func(body string) func(string) subject {
		return func(string) subject {
			return subject{path: map[string]string{"tenant_id": s.tenant, "user_id": s.recruit()}, body: body}
		}
	}
	requests["listTenants"] = always(subject{})
	requests["getTenant"], requests["listTenantMembers"], requests["listTenantAudit"] = always(ofTenant), always(ofTenant), always(ofTenant)
	requests["updateTenant"] = always(subject{path: ofTenant.path, body: `{"name":"Olga's"}`})
	requests["updateTenantMember"], requests["removeTenantMember"] = ofMember(`{"role":"viewer"}`), ofMember("")
	requests["listProjects"], requests["listInvitations"] = always(subject{query: here}), always(subject{query: here})
	requests["createProject"] = func(string) subject {
		s.made++
		return subject{body: fmt.Sprintf(`{"tenant_id":%q,"name":"matrix-%03d"}`, s.tenant, s.made)}
	}
	requests["getProject"], requests["listProjectMembers"] = always(ofProject), always(ofProject)
	requests["updateProject"] = func(string) subject {
		s.made++
		return subject{path: map[string]string{"project_id": s.found()}, body: fmt.Sprintf(`{"name":"renamed-%03d"}`, s.made)}
	}
	budgeted := func(string) subject {
		project := s.found()
		s.exec(`INSERT INTO project_budgets (tenant_id, project_id, version, amount_micros, period, warning_percent, actor_user_id)
			VALUES ($1, $2, 1, 1000000, 'month', 80, 'user_olga')`, s.tenant, project)
		return subject{path: map[string]string{"project_id": project}}
	}
	requests["getProjectBudget"], requests["deleteProjectBudget"] = budgeted, budgeted
	requests["putProjectBudget"] = always(subject{path: ofProject.path, body: `{"amount_minor":50000,"period":"month","warning_percent":80}`})
	requests["archiveProject"] = func(string) subject { return subject{path: map[string]string{"project_id": s.found()}} }
	ofProjectMember := func(body string) func(string) subject {
		return func(string) subject {
			userID := s.recruit()
			s.exec(`INSERT INTO project_members (tenant_id, project_id, user_id, role) VALUES ($1, $2, $3, 'viewer')`, s.tenant, s.project, userID)
			return subject{path: map[string]string{"project_id": s.project, "user_id": userID}, body: body}
		}
	}
	requests["putProjectMember"], requests["removeProjectMember"] = ofProjectMember(`{"role":"member"}`), ofProjectMember("")
	requests["createInvitation"] = always(subject{body: fmt.Sprintf(`{"tenant_id":%q,"role":"member"}`, s.tenant)})
	requests["revokeInvitation"] = func(string) subject {
		invitation, _ := s.invite().fields()["invitation"].(map[string]any)
		return subject{path: map[string]string{"invitation_id": fmt.Sprint(invitation["id"])}}
	}
	// Whoever accepts must not belong to the tenant already: each asking is to a tenant of its own.
	requests["acceptInvitation"] = func(string) subject {
		s.made++
		host := fmt.Sprintf("host-%03d", s.made)
		s.ask("GET", "/api/v1/me", s.token(host), "", "")
		made := s.ask("POST", "/api/v1/invitations", s.token(host), host, `{"role":"viewer"}`)
		return subject{body: fmt.Sprintf(`{"token":%q}`, made.text("token"))}
	}
	requests["listMyInvitations"] = always(subject{})
	requests["acceptMyInvitation"] = func(caller string) subject {
		s.made++
		host, address := fmt.Sprintf("host-%03d", s.made), caller+"@example.com"
		s.exec(`UPDATE users SET email = $2, email_verified = true WHERE username = $1 AND email <> $2`, s.names[caller], address)
		s.ask("GET", "/api/v1/me", s.token(host), "", "")
		made := s.ask("POST", "/api/v1/invitations", s.token(host), host, fmt.Sprintf(`{"role":"viewer","email":%q}`, address))
		invitation, _ := made.fields()["invitation"].(map[string]any)
		return subject{path: map[string]string{"invitation_id": fmt.Sprint(invitation["id"])}}
	}
	return requests
}

func (s *scene) invite() reply {
	s.t.Helper()
	s.made++
	made := s.ask("POST", "/api/v1/invitations", s.credentials["owner"], fmt.Sprintf("invite-%03d", s.made), fmt.Sprintf(`{"tenant_id":%q,"role":"member"}`, s.tenant))
	if made.status != 201 {
		s.t.Fatalf("the scene's invitation is answered %d %s", made.status, made.body)
	}
	return made
}
