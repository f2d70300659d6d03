package identity

import "slices"

// Permission is one thing that may be done with one noun, "noun:verb". A role is a set of permissions in a tenant or a
// project, and the scopes of an API token are permissions too: whoever calls needs both to hold it.
type Permission string

// The permissions. What an operation needs stands beside its route, in the table of package api.
const (
	// ProfileRead and ProfileWrite are about the caller's own person, tokens and notifications.
	ProfileRead  Permission = "profile:read"
	ProfileWrite Permission = "profile:write"

	CatalogRead Permission = "catalog:read"

	AllocationsRead  Permission = "allocations:read"
	AllocationsWrite Permission = "allocations:write"
	// AllocationsManage is AllocationsWrite on what other members own.
	AllocationsManage Permission = "allocations:manage"

	KeysRead  Permission = "keys:read"
	KeysWrite Permission = "keys:write"

	BillingRead  Permission = "billing:read"
	BillingWrite Permission = "billing:write"

	ProjectsRead  Permission = "projects:read"
	ProjectsWrite Permission = "projects:write"

	MembersRead  Permission = "members:read"
	MembersWrite Permission = "members:write"

	ServiceAccountsRead  Permission = "service_accounts:read"
	ServiceAccountsWrite Permission = "service_accounts:write"

	AuditRead Permission = "audit:read"

	WebhooksRead  Permission = "webhooks:read"
	WebhooksWrite Permission = "webhooks:write"

	// TenantWrite renames a tenant; TenantOwn closes it, exports it and appoints its owners.
	TenantRead  Permission = "tenant:read"
	TenantWrite Permission = "tenant:write"
	TenantOwn   Permission = "tenant:own"

	// PlatformRead and PlatformWrite are the operator's, and no tenant's role holds them.
	PlatformRead  Permission = "platform:read"
	PlatformWrite Permission = "platform:write"
)

// Permissions lists every permission, which are also the scopes that a token can be given.
func Permissions() []Permission {
	return []Permission{
		ProfileRead, ProfileWrite, CatalogRead, AllocationsRead, AllocationsWrite, AllocationsManage, KeysRead, KeysWrite,
		BillingRead, BillingWrite, ProjectsRead, ProjectsWrite, MembersRead, MembersWrite, ServiceAccountsRead, ServiceAccountsWrite,
		AuditRead, WebhooksRead, WebhooksWrite, TenantRead, TenantWrite, TenantOwn, PlatformRead, PlatformWrite,
	}
}

// Valid says whether p is one of them.
func (p Permission) Valid() bool { return slices.Contains(Permissions(), p) }

// Reads says whether p changes nothing; an operator may see into a tenant by such permissions alone.
func (p Permission) Reads() bool {
	switch p {
	case ProfileRead, CatalogRead, AllocationsRead, KeysRead, BillingRead, ProjectsRead, MembersRead, ServiceAccountsRead, AuditRead, WebhooksRead,
		TenantRead, PlatformRead:
		return true
	default:
		return false
	}
}

// Personal says whether p is about the caller alone, and so needs no role anywhere.
func (p Permission) Personal() bool { return p == ProfileRead || p == ProfileWrite || p == CatalogRead }

// Privileged says whether a mutation that needs p is one that audit_logs tells of, refusals included.
func (p Permission) Privileged() bool {
	switch p {
	case PlatformWrite, TenantWrite, TenantOwn, MembersWrite, ProjectsWrite, ServiceAccountsWrite, BillingWrite, WebhooksWrite:
		return true
	default:
		return false
	}
}

// Role is what somebody is in a tenant, or in one project of it.
type Role string

// The roles of a member.
const (
	Owner   Role = "owner"
	Admin   Role = "admin"
	Member  Role = "member"
	Viewer  Role = "viewer"
	Billing Role = "billing"
)

// MemberRoles lists them, the strongest first.
func MemberRoles() []Role { return []Role{Owner, Admin, Member, Viewer, Billing} }

// Valid says whether r is a member's role.
func (r Role) Valid() bool { return slices.Contains(MemberRoles(), r) }

var viewing = []Permission{TenantRead, ProjectsRead, MembersRead, AllocationsRead, KeysRead}

var granted = map[Role][]Permission{
	Viewer:  viewing,
	Member:  append(slices.Clone(viewing), AllocationsWrite, KeysWrite, BillingRead),
	Billing: append(slices.Clone(viewing), BillingRead, BillingWrite),
	Admin: append(slices.Clone(viewing), AllocationsWrite, AllocationsManage, KeysWrite, BillingRead, BillingWrite, ProjectsWrite,
		MembersWrite, ServiceAccountsRead, ServiceAccountsWrite, AuditRead, WebhooksRead, WebhooksWrite, TenantWrite),
	Owner: append(slices.Clone(viewing), AllocationsWrite, AllocationsManage, KeysWrite, BillingRead, BillingWrite, ProjectsWrite,
		MembersWrite, ServiceAccountsRead, ServiceAccountsWrite, AuditRead, WebhooksRead, WebhooksWrite, TenantWrite, TenantOwn),
}

// Grants says whether the role holds p where it is held.
func (r Role) Grants(p Permission) bool { return slices.Contains(granted[r], p) }

// Scopes lists what a program with the role may do: what the role grants in the whole tenant or in one project alone, and to
// read about itself and the catalogue.
func (r Role) Scopes(inProject bool) []Permission {
	scopes := []Permission{ProfileRead, CatalogRead}
	for _, p := range granted[r] {
		if !inProject || r.GrantsInProject(p) {
			scopes = append(scopes, p)
		}
	}
	slices.Sort(scopes)
	return scopes
}

// ofProjects are the permissions that a role in a single project can give; the rest is about the whole tenant.
var ofProjects = []Permission{ProjectsRead, MembersRead, AllocationsRead, AllocationsWrite, AllocationsManage, KeysRead, KeysWrite, MembersWrite, ProjectsWrite}

// GrantsInProject says whether the role, held in one project alone, holds p there.
func (r Role) GrantsInProject(p Permission) bool {
	return slices.Contains(ofProjects, p) && r.Grants(p)
}
