package queries

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestNamedArgumentsBecomePositionalOnce(t *testing.T) {
	numbered, err := positional("-- of @nobody's\nSELECT @b::text, '@literal', @a, @b WHERE @c IS NULL")
	if err != nil {
		t.Fatal(err)
	}
	if want := "-- of @nobody's\nSELECT $1::text, '@literal', $2, $1 WHERE $3 IS NULL"; numbered.sql != want {
		t.Fatalf("the statement became %q, want %q", numbered.sql, want)
	}
	if bound := numbered.bind([]any{pgx.NamedArgs{"a": 1, "b": 2}}); !slices.Equal(bound, []any{2, 1, nil}) {
		t.Fatalf("the arguments are %v, want those of b, a and c", bound)
	}
	if bound := numbered.bind([]any{7, 8, 9}); !slices.Equal(bound, []any{7, 8, 9}) {
		t.Fatalf("positional arguments became %v", bound)
	}
}
