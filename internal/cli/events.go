package cli

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
)

func outboxTable(o client.Outbox) table {
	return fields("cursor", fmt.Sprint(o.Cursor), "sealed", fmt.Sprint(o.Sealed), "epoch", fmt.Sprint(o.Epoch), "leader", text(o.Leader),
		"moved", instant(o.MovedAt), "pending", fmt.Sprint(o.Pending), "since", optionalInstant(o.PendingSince), "lag", (time.Duration(o.LagMs) * time.Millisecond).String())
}

// outboxCommand is the publishing of events.
func (c *command) outboxCommand() *cobra.Command {
	show := asking(c, "show", "Show where the publishing of events stands", none, outboxTable,
		func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
			return api.GetOutbox(ctx)
		})
	rewind := operating(c, "rewind SINCE", "Publish again every event written at or after an instant (RFC 3339)", exact(1, "an instant"), "", outboxTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string, reason string) (*http.Response, error) {
			since, err := time.Parse(time.RFC3339, arguments[0])
			if err != nil {
				return nil, usage("SINCE is an instant such as 2026-01-05T09:00:00Z, not %q", arguments[0])
			}
			key := newKey()
			return api.RewindOutbox(ctx, &client.RewindOutboxParams{XIdempotencyKey: &key}, client.RewindOutboxRequest{Since: since, Reason: reason})
		})
	return group("outbox", "The publishing of events", show, rewind)
}

func deadLetterTable(l client.DeadLetter) table {
	replayable := "no"
	if l.Replayable {
		replayable = "yes"
	}
	return fields("letter", fmt.Sprint(l.ID), "event", text(l.EventID), "subject", l.Subject, "consumer", l.Consumer, "attempts", fmt.Sprint(l.Attempts),
		"failed", instant(l.FailedAt), "replayable", replayable, "reason", l.Reason)
}

// deadLetterCommand is what could not be published or processed.
func (c *command) deadLetterCommand() *cobra.Command {
	var consumer string
	list := listing(c, "List messages that could not be published or processed, oldest first", []string{"LETTER", "FAILED", "SUBJECT", "CONSUMER", "ATTEMPTS", "REASON"},
		func(l client.DeadLetter) []string {
			return []string{fmt.Sprint(l.ID), instant(l.FailedAt), l.Subject, l.Consumer, fmt.Sprint(l.Attempts), l.Reason}
		},
		func(ctx context.Context, api client.ClientInterface, size *int64, cursor *string) (*http.Response, error) {
			return api.ListDeadLetters(ctx, &client.ListDeadLettersParams{Consumer: optional(consumer), Limit: size, Cursor: cursor})
		})
	list.Flags().StringVar(&consumer, "consumer", "", "only what this consumer gave up on")
	show := asking(c, "show LETTER", "Show a dead letter; with -o json, the message too", exact(1, "the letter's number"), deadLetterTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			number, err := letterNumber(arguments[0])
			if err != nil {
				return nil, err
			}
			return api.GetDeadLetter(ctx, number)
		})
	replay := operating(c, "replay LETTER", "Publish its event again, and remove the letter", exact(1, "the letter's number"), "", nothing,
		func(ctx context.Context, api client.ClientInterface, arguments []string, reason string) (*http.Response, error) {
			number, err := letterNumber(arguments[0])
			if err != nil {
				return nil, err
			}
			key := newKey()
			return api.ReplayDeadLetter(ctx, number, &client.ReplayDeadLetterParams{XIdempotencyKey: &key}, client.OperateDeadLetterRequest{Reason: reason})
		})
	discard := operating(c, "discard LETTER", "Remove a letter for ever", exact(1, "the letter's number"),
		"Discarding %s removes the message for ever; the audit log keeps only what it was about.", nothing,
		func(ctx context.Context, api client.ClientInterface, arguments []string, reason string) (*http.Response, error) {
			number, err := letterNumber(arguments[0])
			if err != nil {
				return nil, err
			}
			key := newKey()
			return api.DiscardDeadLetter(ctx, number, &client.DiscardDeadLetterParams{XIdempotencyKey: &key}, client.OperateDeadLetterRequest{Reason: reason})
		})
	return group("dlq", "Messages that could not be published or processed", list, show, replay, discard)
}

func letterNumber(text string) (int64, error) {
	number, err := strconv.ParseInt(text, 10, 64)
	if err != nil || number < 1 {
		return 0, usage("LETTER is a number that `gpuaas admin dlq list` shows, not %q", text)
	}
	return number, nil
}
