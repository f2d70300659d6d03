package temporal

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
)

const (
	firstPause   = 200 * time.Millisecond
	longestPause = 2 * time.Second
)

// AskUntilAnswered sends an update until the workflow answers it, the cluster refuses it, or ctx ends. An update is in no
// history before it is accepted, so the cluster may lose one: with a workflow task that failed or came too late, with a run
// that closed in that moment, with a call that one of the cluster's parts gave up. It says so and leaves it to the caller
// to ask again. So ask must send the same update id each time; its error is returned as it is.
func AskUntilAnswered(ctx context.Context, ask func(context.Context) error) error {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = firstPause, longestPause
	var last error
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		last = ask(ctx)
		if last != nil && !lost(last) {
			return struct{}{}, backoff.Permanent(last)
		}
		return struct{}{}, last
	}, backoff.WithBackOff(pauses), backoff.WithMaxElapsedTime(0)) // ctx alone says for how long
	if err != nil && !errors.Is(last, err) {
		return errors.Join(err, last)
	}
	return err
}

// lost says that no workflow saw the update, or none that still can answer it.
func lost(err error) bool {
	return is[*serviceerror.WorkflowNotReady](err) || is[*serviceerror.NotFound](err) || is[*serviceerror.Aborted](err) ||
		is[*client.WorkflowUpdateServiceTimeoutOrCanceledError](err)
}
