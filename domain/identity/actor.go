// Package identity says who acts and what they may: a user of a tenant in a role, a service account, a node, or the platform itself. A leaf of
// domain: standard library and domain/id.
package identity

import (
	"slices"

	"github.com/gpuaas/gpuaas/domain/id"
)

// Roles as they stand in audit rows. RoleUser and RoleAdmin come from the token; RoleSystem is the platform.
const (
	RoleUser    = "user"
	RoleAdmin   = "admin"
	RoleService = "service"
	RoleNode    = "node"
	RoleSystem  = "system"
)

// Actor is who a write is attributed to. ID is a user id, a node id, or "platform".
type Actor struct {
	ID   string `json:"id"`
	Role string `json:"role"`
}

// Platform is the actor of what nobody asked for: provisioning, metering, the stop at an empty balance.
func Platform() Actor { return Actor{ID: "platform", Role: RoleSystem} }

// Membership is a role in a tenant (ProjectID empty) or in one of its projects.
type Membership struct {
	TenantID  id.Tenant
	ProjectID id.Project
	Role      Role
}

// Standing is a tenant that a principal belongs to, with what is needed to act there.
type Standing struct {
	TenantID id.Tenant
	// Suspended says that nothing new may begin there: the tenant is suspended or on its way to be closed.
	Suspended bool
	// Closed says that nothing happens there any more, unless it is opened again.
	Closed bool
	// ProjectID is the default project.
	ProjectID id.Project
	AccountID id.Account
}

// Principal is an authenticated caller: who, at home in which tenant, with which default project and account, holding what.
// What lies behind json:"-" can change at any moment and so is never written into a history.
type Principal struct {
	UserID    id.User    `json:"user_id"`
	TenantID  id.Tenant  `json:"tenant_id"`
	ProjectID id.Project `json:"project_id"`
	AccountID id.Account `json:"account_id"`
	Username  string     `json:"-"`
	Roles     []string   `json:"roles"`

	// Service says that it is a service account and no person.
	Service bool `json:"-"`
	// Scopes are what the credential is good for; nil for a sign-in, which is good for everything its person may do.
	Scopes []Permission `json:"-"`
	// CredentialID names the API token in hand, empty for a sign-in.
	CredentialID string       `json:"-"`
	Memberships  []Membership `json:"-"`
	Tenants      []Standing   `json:"-"`
}

// Actor is the principal as an audit row names it, in its strongest role.
func (p Principal) Actor() Actor {
	role := RoleUser
	switch {
	case p.IsAdmin():
		role = RoleAdmin
	case p.Service:
		role = RoleService
	}
	return Actor{ID: string(p.UserID), Role: role}
}

// IsAdmin says whether the principal operates the platform.
func (p Principal) IsAdmin() bool { return slices.Contains(p.Roles, RoleAdmin) }

// InScope says whether the credential in hand is good for permission.
func (p Principal) InScope(permission Permission) bool {
	return p.Scopes == nil || slices.Contains(p.Scopes, permission)
}

// Belongs says whether the principal is a member of the tenant or of the project; project may be empty, and then a member
// of any project of the tenant belongs.
func (p Principal) Belongs(tenant id.Tenant, project id.Project) bool {
	return slices.ContainsFunc(p.Memberships, func(m Membership) bool {
		return m.TenantID == tenant && (m.ProjectID == "" || project == "" || m.ProjectID == project)
	})
}

// Holds says whether a role of the principal, in the tenant or in the project, grants the permission there.
func (p Principal) Holds(permission Permission, tenant id.Tenant, project id.Project) bool {
	return slices.ContainsFunc(p.Memberships, func(m Membership) bool {
		switch {
		case m.TenantID != tenant:
			return false
		case m.ProjectID == "":
			return m.Role.Grants(permission)
		default:
			return m.ProjectID == project && m.Role.GrantsInProject(permission)
		}
	})
}

// Reaches says whether the principal holds the permission anywhere at all, with the credential in hand.
func (p Principal) Reaches(permission Permission) bool {
	switch {
	case !p.InScope(permission):
		return false
	case permission == PlatformRead, permission == PlatformWrite:
		return p.IsAdmin()
	case permission.Personal():
		return true
	}
	return slices.ContainsFunc(p.Memberships, func(m Membership) bool { return p.Holds(permission, m.TenantID, m.ProjectID) })
}

// RoleIn is the principal's role in the whole tenant, empty for somebody who belongs to single projects of it alone.
func (p Principal) RoleIn(tenant id.Tenant) Role {
	for _, m := range p.Memberships {
		if m.TenantID == tenant && m.ProjectID == "" {
			return m.Role
		}
	}
	return ""
}

// Standing is what the principal needs to act in a tenant; false where they do not belong to it.
func (p Principal) Standing(tenant id.Tenant) (Standing, bool) {
	for _, standing := range p.Tenants {
		if standing.TenantID == tenant {
			return standing, true
		}
	}
	return Standing{}, false
}
