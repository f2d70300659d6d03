package queries

import (
	"errors"
	"strings"

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

// Unstorable says whether err is PostgreSQL's refusal of a value that no other attempt would change: data that its type does not hold
// (SQLSTATE class 22), or more of it than it can work on (class 54).
func Unstorable(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && (strings.HasPrefix(refused.Code, "22") || strings.HasPrefix(refused.Code, "54"))
}
