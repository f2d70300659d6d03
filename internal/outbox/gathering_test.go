package outbox

import (
	"testing"
	"time"
)

func TestARelayWaitsLongerTheMoreThereWasAndNeverBeyondFourPolls(t *testing.T) {
	relay := Relay{config: DefaultConfig()}
	for published, want := range map[int]time.Duration{
		0: 20 * time.Millisecond, 1: 20*time.Millisecond + 468750*time.Nanosecond, 64: 50 * time.Millisecond, 128: 80 * time.Millisecond, 999: 80 * time.Millisecond,
	} {
		if got := relay.gathering(published); got != want {
			t.Errorf("after %d events it waits %s, not %s", published, got, want)
		}
	}
}
