// Package identity says who acts: a user of a tenant in a role, a node, or the platform itself. A leaf of
// domain: standard library and domain/id.
package identity

import "github.com/gpuaas/gpuaas/domain/id"

// Roles as they stand in audit rows. RoleUser and RoleAdmin come from the token; RoleSystem is the platform.
const (
	RoleUser   = "user"
	RoleAdmin  = "admin"
	RoleNode   = "node"
	RoleSystem = "system"
)

// Actor is who a write is attributed to. ID is a user id, a node id, or "platform".
type Actor struct {
	ID   string `json:"id"`
	Role string `json:"role"`
}

// Platform is the actor of what nobody asked for: provisioning, metering, the stop at an empty balance.
func Platform() Actor { return Actor{ID: "platform", Role: RoleSystem} }

// Principal is an authenticated caller: who, in which tenant, with which default project and account.
type Principal struct {
	UserID    id.User    `json:"user_id"`
	TenantID  id.Tenant  `json:"tenant_id"`
	ProjectID id.Project `json:"project_id"`
	AccountID id.Account `json:"account_id"`
	Username  string     `json:"-"`
	Roles     []string   `json:"roles"`
}

// Actor is the principal as an audit row names it, in its strongest role.
func (p Principal) Actor() Actor {
	role := RoleUser
	if p.IsAdmin() {
		role = RoleAdmin
	}
	return Actor{ID: string(p.UserID), Role: role}
}

// IsAdmin says whether the token carries the platform's admin role.
func (p Principal) IsAdmin() bool {
	for _, role := range p.Roles {
		if role == RoleAdmin {
			return true
		}
	}
	return false
}
