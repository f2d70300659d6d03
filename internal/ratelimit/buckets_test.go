package ratelimit

import (
	"strconv"
	"testing"
	"time"
)

func TestABucketHoldsAMinuteAndFillsEvenly(t *testing.T) {
	b, now := newBuckets(), time.Unix(1_800_000_000, 0)
	for i := range 6 {
		got := b.take("a", 6, now)
		if want := int64(5 - i); !got.Allowed || got.Remaining != want || got.Reset != time.Duration(i+1)*10*time.Second {
			t.Fatalf("request %d got %+v", i, got)
		}
	}
	if got := b.take("a", 6, now); got.Allowed || got.Remaining != 0 || got.RetryAfter != 10*time.Second || got.Reset != time.Minute {
		t.Errorf("one too many got %+v", got)
	}
	if got := b.take("b", 6, now); !got.Allowed {
		t.Errorf("another bucket got %+v", got)
	}
	if got := b.take("a", 6, now.Add(10*time.Second-1)); got.Allowed || got.RetryAfter != 1 {
		t.Errorf("a nanosecond too early got %+v", got)
	}
	if got := b.take("a", 6, now.Add(10*time.Second)); !got.Allowed || got.Remaining != 0 {
		t.Errorf("in time got %+v", got)
	}
	if got := b.take("a", 60, now.Add(20*time.Second)); !got.Allowed || got.Remaining != 9 {
		t.Errorf("with ten times the limit a bucket that is a sixth full got %+v", got)
	}
	if got := b.take("a", 6, now.Add(-time.Hour)); got.Allowed || got.Reset > Window {
		t.Errorf("after the clock was set back: %+v", got)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	b, now := newBuckets(), time.Unix(1_800_000_000, 0)
	for i := range mostBuckets {
		b.take(strconv.Itoa(i), 6, now)
	}
	if len(b.full) > mostBuckets {
		t.Errorf("%d buckets are kept", len(b.full))
	}
	if got := b.take("late", 6, now.Add(time.Hour)); !got.Allowed || got.Remaining != 5 {
		t.Errorf("somebody new in the crowd gets %+v", got)
	}
	if len(b.full) != 1 {
		t.Errorf("an hour later %d buckets are kept, although all but one are full", len(b.full))
	}
}
