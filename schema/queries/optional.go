package queries

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// optional turns an empty id into SQL's NULL, which filters nothing.
func optional[Text ~string](value Text) *string {
	if value == "" {
		return nil
	}
	text := string(value)
	return &text
}

// Violates says whether err is the database's refusal to break the named constraint.
func Violates(err error, constraint string) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.ConstraintName == constraint
}
