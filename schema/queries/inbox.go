package queries

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// InsertInbox records, in the transaction of a consumer's change, that it applied an event; false where it did before.
func InsertInbox(ctx context.Context, db DB, consumer, eventID string) (bool, error) {
	inserted, err := execute(ctx, db, "InboxInsert", pgx.NamedArgs{"consumer": consumer, "event_id": eventID})
	return inserted == 1, err
}

// RecordFailure counts that a consumer could not apply a message, and answers how often that was.
func RecordFailure(ctx context.Context, db DB, consumer, message, reason string) (attempts int, err error) {
	row, err := one[struct{ Attempts int }](ctx, db, "InboxFailed", pgx.NamedArgs{"consumer": consumer, "message": message, "reason": reason})
	return row.Attempts, err
}

// ForgiveFailures forgets how often a consumer could not apply a message.
func ForgiveFailures(ctx context.Context, db DB, consumer, message string) error {
	_, err := execute(ctx, db, "InboxForgive", pgx.NamedArgs{"consumer": consumer, "message": message})
	return err
}

// PurgeInbox forgets a limited number of events that were applied longer ago than keep, and the failures as old, and says how many events.
func PurgeInbox(ctx context.Context, db DB, keep time.Duration, limit int) (int64, error) {
	if _, err := execute(ctx, db, "InboxFailuresPurge", pgx.NamedArgs{"keep": keep}); err != nil {
		return 0, err
	}
	return execute(ctx, db, "InboxPurge", pgx.NamedArgs{"keep": keep, "limit": limit})
}
