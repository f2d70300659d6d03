package queries

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/id"
)

// UserOfAll reads a user whatever their tenant, for operators; pgx.ErrNoRows when there is none, or they were erased.
func UserOfAll(ctx context.Context, db DB, user id.User) (User, error) {
	return one[User](ctx, db, "UserOfAll", pgx.NamedArgs{"id": user})
}

// HoldUser is UserOfAll that keeps every other change of the user waiting.
func HoldUser(ctx context.Context, db DB, user id.User) (User, error) {
	return one[User](ctx, db, "UserHold", pgx.NamedArgs{"id": user})
}

// SetUserStatus moves a user to a status; false when they were in none of those it starts from. ConstraintLastAdmin is violated
// where nobody active would operate the platform any more.
func SetUserStatus(ctx context.Context, db DB, user id.User, from []string, to, reason string) (bool, error) {
	changed, err := execute(ctx, db, "UserSetStatus", pgx.NamedArgs{"id": user, "from": from, "status": to, "reason": reason})
	return changed == 1, err
}

// RegisterUser makes a user before their first sign-in, with everything a first sign-in makes. Without a subject the first one of
// this issuer who signs in under the name takes the user over; unknown is then a text that nobody else can know. Taken says that
// there is such a user already, and who it is if they have signed in.
func RegisterUser(ctx context.Context, db DB, in SignIn, unknown string) (made Identity, taken bool, err error) {
	if in.Subject != "" {
		found, err := FindIdentity(ctx, db, in.Issuer, in.Subject)
		if err == nil {
			return found, true, nil
		}
		// The lock of the sign-in below decides between two at once: the second finds what the first made.
		made, err = EnsureIdentity(ctx, db, in)
		return made, err == nil && !made.Created, err
	}
	awaited, err := one[struct{ Awaited bool }](ctx, db, "UserAwaited", pgx.NamedArgs{"issuer": in.Issuer, "username": in.Username})
	if err != nil || awaited.Awaited {
		return made, awaited.Awaited, err
	}
	in.Subject = unknown
	if made, err = EnsureIdentity(ctx, db, in); err != nil {
		return made, false, err
	}
	if _, err = execute(ctx, db, "UserAwait", pgx.NamedArgs{"id": made.User.ID}); err != nil {
		return made, false, fmt.Errorf("register %s: %w", made.User.ID, err)
	}
	return made, false, nil
}

// InsertOrganisation makes an organisation's tenant with its default project and its account, before anybody of it signed in.
// ConstraintOrganisation is violated where it has one. Of the sign-in only the organisation, the currency and the ids count.
func InsertOrganisation(ctx context.Context, db DB, in SignIn, name string) error {
	if _, err := execute(ctx, db, "OrganisationLock", pgx.NamedArgs{"org_id": in.OrgID}); err != nil {
		return err
	}
	return makeTenant(ctx, db, in, "organisation", name)
}

// PlatformAdmin is somebody who operates the platform.
type PlatformAdmin struct {
	UserID   id.User
	Username string
	// Source is issuer for who came by the issuer's role, appointed for who was appointed here.
	Source    string
	GrantedBy string
	Status    string
	CreatedAt time.Time
}

// AdminByIssuer is the source of a platform admin who is one by the issuer's word alone.
const AdminByIssuer = "issuer"

// ReadPlatformAdmins reads one page of platform admins, newest first.
func ReadPlatformAdmins(ctx context.Context, db DB, beforeTime time.Time, beforeID string, limit int) ([]PlatformAdmin, error) {
	return many[PlatformAdmin](ctx, db, "PlatformAdminPage", pgx.NamedArgs{"before_time": beforeTime, "before_id": optional(beforeID), "limit": limit})
}

// GetPlatformAdmin reads a platform admin; pgx.ErrNoRows when the user is none.
func GetPlatformAdmin(ctx context.Context, db DB, user id.User) (PlatformAdmin, error) {
	return one[PlatformAdmin](ctx, db, "PlatformAdminGet", pgx.NamedArgs{"user_id": user})
}

// AppointPlatformAdmin makes a user an operator of the platform for as long as nobody dismisses them; false when they were that.
func AppointPlatformAdmin(ctx context.Context, db DB, user id.User, grantedBy string) (bool, error) {
	changed, err := execute(ctx, db, "PlatformAdminAppoint", pgx.NamedArgs{"user_id": user, "granted_by": grantedBy})
	return changed == 1, err
}

// DismissPlatformAdmin takes an appointment back; false when there was none. ConstraintLastAdmin is violated where nobody active
// would operate the platform any more.
func DismissPlatformAdmin(ctx context.Context, db DB, user id.User) (bool, error) {
	changed, err := execute(ctx, db, "PlatformAdminDismiss", pgx.NamedArgs{"user_id": user})
	return changed == 1, err
}
