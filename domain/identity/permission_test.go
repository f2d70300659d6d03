package identity

import (
	"testing"

	"github.com/gpuaas/gpuaas/domain/id"
)

const (
	ours   = id.Tenant("tenant_a")
	theirs = id.Tenant("tenant_b")
	red    = id.Project("proj_red")
	blue   = id.Project("proj_blue")
)

func TestARoleHoldsWhereItIsHeld(t *testing.T) {
	inTenant := func(role Role) Principal {
		return Principal{Memberships: []Membership{{TenantID: ours, Role: role}}}
	}
	inRed := func(role Role) Principal {
		return Principal{Memberships: []Membership{{TenantID: ours, ProjectID: red, Role: role}}}
	}
	for name, test := range map[string]struct {
		who        Principal
		permission Permission
		tenant     id.Tenant
		project    id.Project
		want       bool
	}{
		"a viewer sees":                          {inTenant(Viewer), AllocationsRead, ours, red, true},
		"a viewer launches nothing":              {inTenant(Viewer), AllocationsWrite, ours, red, false},
		"a viewer sees no money":                 {inTenant(Viewer), BillingRead, ours, "", false},
		"a member launches":                      {inTenant(Member), AllocationsWrite, ours, blue, true},
		"a member manages nobody's":              {inTenant(Member), AllocationsManage, ours, blue, false},
		"a member invites nobody":                {inTenant(Member), MembersWrite, ours, "", false},
		"billing pays":                           {inTenant(Billing), BillingWrite, ours, "", true},
		"billing launches nothing":               {inTenant(Billing), AllocationsWrite, ours, red, false},
		"an admin manages":                       {inTenant(Admin), AllocationsManage, ours, red, true},
		"an admin does not close":                {inTenant(Admin), TenantOwn, ours, "", false},
		"an owner closes":                        {inTenant(Owner), TenantOwn, ours, "", true},
		"an owner elsewhere":                     {inTenant(Owner), AllocationsRead, theirs, "", false},
		"an owner operates no platform":          {inTenant(Owner), PlatformRead, ours, "", false},
		"a project's member launches there":      {inRed(Member), AllocationsWrite, ours, red, true},
		"a project's member launches not beside": {inRed(Member), AllocationsWrite, ours, blue, false},
		"a project's member is none of all":      {inRed(Member), AllocationsRead, ours, "", false},
		"a project's owner closes no tenant":     {inRed(Owner), TenantOwn, ours, red, false},
		"a project's owner sees no money":        {inRed(Owner), BillingRead, ours, red, false},
		"a project's admin invites there":        {inRed(Admin), MembersWrite, ours, red, true},
		"nobody":                                 {Principal{}, AllocationsRead, ours, red, false},
	} {
		if got := test.who.Holds(test.permission, test.tenant, test.project); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestARoleNeverGrantsWhatIsTheOperators(t *testing.T) {
	for _, role := range MemberRoles() {
		for _, permission := range []Permission{PlatformRead, PlatformWrite} {
			if role.Grants(permission) {
				t.Errorf("%s grants %s", role, permission)
			}
		}
	}
	for _, permission := range Permissions() {
		platform := permission == PlatformRead || permission == PlatformWrite
		if !platform && !permission.Personal() && !Owner.Grants(permission) {
			t.Errorf("an owner lacks %s", permission)
		}
		if permission.Reads() && permission.Privileged() {
			t.Errorf("%s reads and is privileged", permission)
		}
	}
}

func TestAScopeBoundsAndNeverGrants(t *testing.T) {
	who := Principal{Scopes: []Permission{AllocationsRead}, Memberships: []Membership{{TenantID: ours, Role: Viewer}}}
	if !who.InScope(AllocationsRead) || who.InScope(AllocationsWrite) {
		t.Error("the scopes are not what was given")
	}
	if (Principal{}).InScope(AllocationsWrite) == false {
		t.Error("a sign-in is bounded by its role alone")
	}
	if (Principal{Scopes: []Permission{}}).InScope(AllocationsRead) {
		t.Error("a token without scopes is good for something")
	}
}
