package queries

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/email"
	"github.com/gpuaas/gpuaas/domain/id"
)

// EmailAddress is where a user can be written to, as their issuer says.
type EmailAddress struct {
	Email         string
	EmailVerified bool
}

// EmailAddressOf reads a user's address; pgx.ErrNoRows where there is no such user.
func EmailAddressOf(ctx context.Context, db DB, user id.User) (EmailAddress, error) {
	return one[EmailAddress](ctx, db, "EmailAddressOf", pgx.NamedArgs{"user_id": user})
}

// EmailsOff reads the categories that a user wants no mail of.
func EmailsOff(ctx context.Context, db DB, user id.User) (map[email.Category]bool, error) {
	rows, err := many[struct {
		Category email.Category
		Enabled  bool
	}](ctx, db, "EmailPreferencesOf", pgx.NamedArgs{"user_id": user})
	off := map[email.Category]bool{}
	for _, row := range rows {
		off[row.Category] = !row.Enabled
	}
	return off, err
}

// SetEmailsOff writes that a user wants mail of every category but these, in the transaction it is given. None of them may be essential: the
// database refuses it.
func SetEmailsOff(ctx context.Context, db DB, user id.User, off []email.Category) error {
	for _, statement := range []string{"EmailPreferencesForget", "EmailPreferencesOff"} {
		if _, err := execute(ctx, db, statement, pgx.NamedArgs{"user_id": user, "off": off}); err != nil {
			return err
		}
	}
	return nil
}
