package ratelimit

import (
	"sync"
	"time"
)

// mostBuckets bounds the memory of a process on its own, some ten megabytes.
const mostBuckets = 100_000

// buckets are those of one process: the same arithmetic as take.lua, on the process's own monotonic clock.
type buckets struct {
	mutex sync.Mutex
	// full is the instant at which a bucket is full again.
	full map[string]time.Time
}

func newBuckets() *buckets { return &buckets{full: map[string]time.Time{}} }

func (b *buckets) take(bucket string, limit int64, now time.Time) Decision {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	each := Window / time.Duration(limit)
	depth := each * time.Duration(limit)
	used := min(max(0, b.full[bucket].Sub(now)), depth)
	decision := Decision{Limit: limit}
	if used+each <= depth {
		decision.Allowed = true
		used += each
		b.makeRoom(now)
		b.full[bucket] = now.Add(used)
	}
	decision.Remaining = int64((depth - used) / each)
	decision.RetryAfter = max(0, used+each-depth)
	decision.Reset = used
	return decision
}

// makeRoom drops buckets that are full, which are as good as none, and, when all are in use, any tenth.
func (b *buckets) makeRoom(now time.Time) {
	if len(b.full) < mostBuckets {
		return
	}
	for bucket, full := range b.full {
		if !full.After(now) {
			delete(b.full, bucket)
		}
	}
	for bucket := range b.full {
		if len(b.full) < mostBuckets*9/10 {
			return
		}
		delete(b.full, bucket)
	}
}
