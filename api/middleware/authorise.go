package middleware

import (
	"cmp"
	"context"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
)

// Place is where a request happens: the tenant, and the project and owner of the object where it has them.
type Place struct {
	TenantID  id.Tenant
	ProjectID id.Project
	// OwnerID is the user whose the object is, empty for what belongs to the tenant as a whole.
	OwnerID   id.User
	AccountID id.Account
	// Operator says that an operator looks into a tenant that is not theirs.
	Operator bool
	// Missing replaces the demand's, where the caller named something else than the operation is mostly about.
	Missing fault.Code
	// Object is what was read to find the place, for the handler, so that nothing is read twice.
	Object any
}

// Demand is what an operation asks of whoever calls it at a place.
type Demand struct {
	Permission identity.Permission
	// Owned says that the object must be the caller's own, or the caller must be one who manages what others own.
	Owned bool
	// Self says that the user whom the object is about (the place's OwnerID) needs no permission.
	Self bool
	// Ends says that the operation ends something, which is open to a suspended tenant too.
	Ends bool
	// Closed says that the operation is open to a closed tenant too.
	Closed bool
	// Missing is what is answered when there is no such object, or it is another tenant's: nobody learns the difference.
	Missing fault.Code
}

// AuthoriseScope refuses a credential that is not good for the permission with fault.TokenScopeInvalid.
func AuthoriseScope(who identity.Principal, permission identity.Permission) error {
	if who.InScope(permission) {
		return nil
	}
	return fault.Newf(fault.TokenScopeInvalid, "The token's scopes do not include %s.", permission).With(map[string]any{"scope": permission})
}

// Authorise decides whether the principal may do at a place what an operation demands. An operator may look into any tenant
// and change nothing there. Faults: the demand's Missing, InsufficientPermissions, OwnershipRequired, TenantSuspended,
// TenantClosed.
func Authorise(who identity.Principal, demand Demand, at Place) (Place, error) {
	if !who.Belongs(at.TenantID, at.ProjectID) {
		if who.IsAdmin() && demand.Permission.Reads() && who.InScope(identity.PlatformRead) {
			at.Operator = true
			return at, nil
		}
		return at, fault.New(cmp.Or(at.Missing, demand.Missing), "")
	}
	if !who.Holds(demand.Permission, at.TenantID, at.ProjectID) && (!demand.Self || at.OwnerID != who.UserID) {
		return at, fault.Newf(fault.InsufficientPermissions, "Your role here does not include %s.", demand.Permission).
			With(map[string]any{"permission": demand.Permission, "role": who.RoleIn(at.TenantID)})
	}
	if demand.Owned && at.OwnerID != who.UserID && !who.Holds(identity.AllocationsManage, at.TenantID, at.ProjectID) {
		return at, fault.New(fault.OwnershipRequired, "")
	}
	standing, _ := who.Standing(at.TenantID)
	if standing.Closed {
		if !demand.Permission.Reads() && !demand.Closed {
			return at, fault.New(fault.TenantClosed, "")
		}
	} else if standing.Suspended && !demand.Permission.Reads() && !demand.Ends {
		return at, fault.New(fault.TenantSuspended, "")
	}
	at.AccountID = standing.AccountID
	return at, nil
}

type placeKey struct{}

// WithPlace hands the place that was authorised to the handler.
func WithPlace(ctx context.Context, at Place) context.Context {
	return context.WithValue(ctx, placeKey{}, at)
}

// At is the place that the request was authorised for; the zero value where the operation is about no tenant's object.
func At(ctx context.Context) Place {
	at, _ := ctx.Value(placeKey{}).(Place)
	return at
}
