package api

import (
	"testing"
	"time"
)

// A deadline beyond what a connection lives had the caller cut off without an answer.
func TestAnAdmissionIsWaitedForAsLongAsAnAnswerCanBeGiven(t *testing.T) {
	for _, test := range []struct{ deadline, wait time.Duration }{
		{5 * time.Second, 7 * time.Second}, {time.Minute, 62 * time.Second}, {78 * time.Second, LongestAnswer},
		{80 * time.Second, LongestAnswer}, {10 * time.Minute, LongestAnswer},
	} {
		if got := admissionWait(test.deadline); got != test.wait {
			t.Errorf("a deadline of %s is waited for %s, not %s", test.deadline, got, test.wait)
		}
	}
}
