package middleware

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gpuaas/gpuaas/schema/queries"
)

const (
	knownFor    = time.Minute
	knownAtMost = 50_000
	// identityChannel is where the database tells of every change of an identity (migration 0007).
	identityChannel = "identity_changed"
	listenAgain     = time.Second
)

// identities remembers who is behind a credential for at most a minute, and forgets at once what the database says has changed:
// a suspension, a lost role or a revoked token counts from its commit on. While nothing is heard from the database, nothing is
// remembered either.
type identities struct {
	pool *pgxpool.Pool
	log  *slog.Logger

	mutex sync.RWMutex
	// hearing says that changes reach us.
	hearing bool
	// changes counts what was heard, so that a reading from before a change is not kept after it.
	changes uint64
	known   map[string]knownIdentity
}

type knownIdentity struct {
	identity queries.Identity
	until    time.Time
}

func newIdentities(pool *pgxpool.Pool, log *slog.Logger) *identities {
	return &identities{pool: pool, log: log, known: map[string]knownIdentity{}}
}

// get answers what is known under a key, and the count of changes to hand to put.
func (i *identities) get(key string, now time.Time) (found queries.Identity, hit bool, changes uint64) {
	i.mutex.RLock()
	defer i.mutex.RUnlock()
	known, hit := i.known[key]
	return known.identity, hit && now.Before(known.until), i.changes
}

// put keeps a reading that no change has overtaken.
func (i *identities) put(key string, found queries.Identity, now time.Time, changes uint64) {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	if !i.hearing || i.changes != changes {
		return
	}
	if len(i.known) >= knownAtMost {
		clear(i.known)
	}
	i.known[key] = knownIdentity{identity: found, until: now.Add(knownFor)}
}

// forget drops what a message of the database is about: "user ID", "tenant ID", or everything.
func (i *identities) forget(message string) {
	kind, changed, _ := strings.Cut(message, " ")
	i.mutex.Lock()
	defer i.mutex.Unlock()
	i.changes++
	for key, known := range i.known {
		switch kind {
		case "user":
			if string(known.identity.User.ID) != changed {
				continue
			}
		case "tenant":
			if !slices.ContainsFunc(known.identity.Tenants, func(t queries.IdentityTenant) bool { return string(t.TenantID) == changed }) {
				continue
			}
		}
		delete(i.known, key)
	}
}

func (i *identities) hear(hearing bool) {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	i.hearing = hearing
	i.changes++
	clear(i.known)
}

// run listens to the database until ctx ends, again after every loss of its connection.
func (i *identities) run(ctx context.Context) error {
	for {
		err := i.listen(ctx)
		i.hear(false)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		i.log.WarnContext(ctx, "changes of identities are not heard; every request reads them anew", "error", err.Error())
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(listenAgain):
		}
	}
}

func (i *identities) listen(ctx context.Context) error {
	connection, err := i.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("a connection to listen on: %w", err)
	}
	// A connection that listens is never given back: somebody else's statement would be told of changes.
	own := connection.Hijack()
	defer func() { _ = own.Close(context.WithoutCancel(ctx)) }()
	if _, err := own.Exec(ctx, "LISTEN "+identityChannel); err != nil {
		return fmt.Errorf("listen to changes of identities: %w", err)
	}
	i.hear(true)
	for {
		told, err := own.WaitForNotification(ctx)
		if err != nil {
			return fmt.Errorf("listen to changes of identities: %w", err)
		}
		i.forget(told.Payload)
	}
}
