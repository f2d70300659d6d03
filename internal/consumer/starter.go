package consumer

import (
	"context"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// startersPoll is how often rows are looked for that nobody rang for: those that the API wrote, and those of a relay that died.
	startersPoll  = time.Second
	startersBatch = 200
	// startersAtOnce is how many workflows are begun at a time.
	startersAtOnce = 16
	// startersPause is the pause after Temporal or the database was away.
	startersPause = 2 * time.Second
)

// Due is where a starter finds what is to be begun.
type Due[Row any] struct {
	// What the rows are, in the plural, for the log.
	What string
	// Find reads some of the rows that have no workflow, oldest first.
	Find func(ctx context.Context, limit int) ([]Row, error)
	// Begun writes that a row has one.
	Begun func(ctx context.Context, row Row) error
}

// Starter begins a workflow for every row that a consumer, or the API, wrote in a transaction of its own. Two may run: a row has one workflow,
// whoever begins it.
type Starter[Row any] struct {
	due  Due[Row]
	log  *slog.Logger
	rung chan struct{}
}

// NewStarter makes one.
func NewStarter[Row any](due Due[Row], log *slog.Logger) *Starter[Row] {
	return &Starter[Row]{due: due, log: log, rung: make(chan struct{}, 1)}
}

// Wake makes it look at once.
func (s *Starter[Row]) Wake() {
	select {
	case s.rung <- struct{}{}:
	default: // woken already
	}
}

// Run begins what is due until ctx ends. Begin starts a row's workflow, or finds it.
func (s *Starter[Row]) Run(ctx context.Context, begin func(context.Context, Row) error) error {
	for {
		pause := startersPoll
		begun, err := s.beginDue(ctx, begin)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			s.log.WarnContext(ctx, "workflows could not be begun and will be later", "what", s.due.What, "error", err.Error())
			pause = startersPause
		case begun == startersBatch:
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.rung:
		case <-time.After(pause):
		}
	}
}

func (s *Starter[Row]) beginDue(ctx context.Context, begin func(context.Context, Row) error) (int, error) {
	due, err := s.due.Find(ctx, startersBatch)
	if err != nil {
		return 0, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(startersAtOnce)
	for _, row := range due {
		group.Go(func() error {
			if err := begin(ctx, row); err != nil {
				return err
			}
			return s.due.Begun(ctx, row)
		})
	}
	return len(due), group.Wait()
}
