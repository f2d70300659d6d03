package activities

import (
	"context"
	"sync"
	"time"

	"github.com/gpuaas/gpuaas/domain/fault"
)

const (
	// StatementsInFlight bounds how many posting statements of a worker run at once: one writes while the next gathers.
	StatementsInFlight = 3
	// minPace and maxPace bound the time from the start of one statement to the start of the next, unless that one is
	// full: half of what the last one took, because a database that is busy gains more from a fuller statement than from
	// an earlier one, and nobody waits for a window as a person waits. A posting that comes after a quiet moment goes out at once.
	minPace = 25 * time.Millisecond
	maxPace = 100 * time.Millisecond
	// statementPatience bounds one shared statement: it serves many callers, so none of their deadlines is its own.
	statementPatience = 10 * time.Second
)

// groupCommit gathers the postings that arrive together into shared statements. The first one goes out at once; those
// that come soon after it gather, until they fill a statement or it is time for the next.
type groupCommit struct {
	commit func(ctx context.Context, postings []*posting)

	mutex    sync.Mutex
	pending  []*posting
	windows  int
	started  time.Time
	inFlight int
	took     time.Duration
	lingers  bool
	closed   bool
	idle     *sync.Cond
}

// newGroupCommit calls commit with the postings of each statement; commit answers every one of them on its channel.
func newGroupCommit(commit func(ctx context.Context, postings []*posting)) *groupCommit {
	g := &groupCommit{commit: commit}
	g.idle = sync.NewCond(&g.mutex)
	return g
}

// post hands a posting over and waits for its outcome, or for the end of ctx. A caller that stopped waiting may still
// find its windows posted; posting them again is harmless.
func (g *groupCommit) post(ctx context.Context, p *posting) error {
	p.abandoned = func() bool { return ctx.Err() != nil }
	if err := g.accept(p); err != nil {
		return err
	}
	select {
	case err := <-p.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *groupCommit) accept(p *posting) error {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	if g.closed {
		return fault.New(fault.ServiceUnavailable, "This worker is stopping; another one posts the windows.")
	}
	g.pending = append(g.pending, p)
	g.windows += len(p.periods)
	g.start()
	return nil
}

// start sends out what is ready; the mutex is held.
func (g *groupCommit) start() {
	for len(g.pending) > 0 && g.inFlight < StatementsInFlight {
		pace := min(max(g.took/2, minPace), maxPace)
		if since := time.Since(g.started); !g.closed && g.windows < MaxStatementWindows && since < pace {
			g.linger(pace - since)
			return
		}
		postings := g.take()
		g.started = time.Now()
		g.inFlight++
		go g.run(postings)
	}
}

func (g *groupCommit) linger(remaining time.Duration) {
	if g.lingers {
		return
	}
	g.lingers = true
	time.AfterFunc(remaining, func() {
		g.mutex.Lock()
		defer g.mutex.Unlock()
		g.lingers = false
		g.start()
	})
}

// take removes the postings of one statement: of one currency, and not more windows than a statement holds.
func (g *groupCommit) take() []*posting {
	var taken []*posting
	rest := g.pending[:0:0]
	currency, windows := g.pending[0].meter.Currency, 0
	for _, p := range g.pending {
		switch {
		case p.abandoned():
			g.windows -= len(p.periods)
		case p.meter.Currency == currency && windows+len(p.periods) <= MaxStatementWindows:
			taken = append(taken, p)
			windows += len(p.periods)
		default:
			rest = append(rest, p)
		}
	}
	g.pending = rest
	g.windows -= windows
	return taken
}

func (g *groupCommit) run(postings []*posting) {
	began := time.Now()
	if len(postings) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), statementPatience)
		g.commit(ctx, postings)
		cancel()
	}
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.inFlight--
	g.took = time.Since(began)
	g.start()
	if g.inFlight == 0 && len(g.pending) == 0 {
		g.idle.Broadcast()
	}
}

func (g *groupCommit) close() {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.closed = true
	g.start()
	for g.inFlight > 0 || len(g.pending) > 0 {
		g.idle.Wait()
	}
}
