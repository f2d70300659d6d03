package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	client "github.com/gpuaas/gpuaas/client/go"
)

// looks is a sequence of what a watch sees, each after the other; it ends the context when all were seen.
func looks(stop context.CancelFunc, bodies ...any) func() (view, error) {
	next := 0
	return func() (view, error) {
		if next == len(bodies) {
			stop()
			return view{}, context.Canceled
		}
		next++
		switch seen := bodies[next-1].(type) {
		case error:
			return view{}, seen
		case view:
			return seen, nil
		}
		panic("neither")
	}
}

func states(pairs ...string) view {
	shown := table{header: []string{"ID", "STATE"}}
	for i := 0; i < len(pairs); i += 2 {
		shown.rows = append(shown.rows, []string{pairs[i], pairs[i+1]})
	}
	body, _ := json.Marshal(shown.rows)
	return view{body: body, render: func() table { return shown }}
}

func TestAWatchShowsWhatChanges(t *testing.T) {
	away := transportError{fmt.Errorf("reach the platform")}
	slow := &client.Refusal{HTTPStatus: http.StatusTooManyRequests, Code: "rate_limit_exceeded", RetryAfter: 20 * time.Second}
	for _, c := range []struct {
		name, output string
		redraws      bool
		first        view
		then         []any
		shown, said  string
		took         time.Duration
	}{
		{"rows", "table", false, states("a", "new", "b", "new"), []any{states("a", "new", "b", "new"), states("a", "active", "b", "new")},
			"ID  STATE\na   new\nb   new\na  active\n", "", 15 * time.Second},
		{"documents in JSON", "json", false, states("a", "new"), []any{states("a", "new"), states("a", "active")},
			`[["a","new"]]` + "\n" + `[["a","active"]]` + "\n", "", 15 * time.Second},
		{"documents in YAML", "yaml", false, states("a", "new"), []any{states("a", "active")},
			"---\n- - a\n  - new\n---\n- - a\n  - active\n", "", 10 * time.Second},
		{"the whole table on a terminal", "table", true, states("a", "new"), []any{states("a", "active")},
			clearScreen + "ID  STATE\na   new\n" + clearScreen + "ID  STATE\na   active\n", "", 10 * time.Second},
		{"across a restart", "json", false, states("a", "new"), []any{away, away, states("a", "active")},
			`[["a","new"]]` + "\n" + `[["a","active"]]` + "\n", "reach the platform; still watching\nthe platform answers again\n", 40 * time.Second},
		{"as slowly as it is told", "json", false, states("a", "new"), []any{slow, states("a", "new")},
			`[["a","new"]]` + "\n", " (rate_limit_exceeded); still watching\nthe platform answers again\n", 30 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				var out, errs bytes.Buffer
				w := watch{command: &command{Terminal: Terminal{Out: &out, Err: &errs}, output: c.output}, every: watchEvery, redraws: c.redraws}
				began := time.Now()
				if err := w.run(ctx, c.first, looks(stop, c.then...)); err == nil || ctx.Err() == nil {
					t.Errorf("it ended by itself: %v", err)
				}
				if out.String() != c.shown || errs.String() != c.said {
					t.Errorf("shown %q\nand not %q\nsaid %q\nand not %q", out.String(), c.shown, errs.String(), c.said)
				}
				if took := time.Since(began); took != c.took {
					t.Errorf("it took %s and not %s", took, c.took)
				}
			})
		})
	}
}

func TestAWatchEndsWithWhatItWatchesAndByARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch{command: &command{Terminal: Terminal{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}, output: "json"}, every: watchEvery}
		last := states("a", "released")
		last.last = true
		if err := w.run(t.Context(), states("a", "active"), looks(nil, last)); err != nil {
			t.Error(err)
		}
		gone := &client.Refusal{HTTPStatus: http.StatusNotFound}
		if err := w.run(t.Context(), states("a", "active"), looks(nil, gone)); exitCode(err) != ExitNotFound {
			t.Errorf("it ended with %v", err)
		}
	})
}

func TestAnInterruptIsHowAWatchEnds(t *testing.T) {
	var asked atomic.Int64
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 2 {
			interrupt()
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(someAllocation))
	}))
	defer server.Close()
	h := newHome(t)
	h.environment["GPUAAS_API_URL"], h.environment["GPUAAS_TOKEN"] = server.URL, "t"
	var out, errs bytes.Buffer
	code := Main(ctx, Terminal{In: strings.NewReader(""), Out: &out, Err: &errs, Environment: func(key string) string { return h.environment[key] }},
		[]string{"alloc", "get", "alloc_a", "--watch", "--watch-interval", "1s", "-o", "json"})
	if code != ExitOK || errs.String() != "" || strings.Count(out.String(), "\n") != 1 {
		t.Fatalf("it ends with %d, stdout %q, stderr %q", code, out.String(), errs.String())
	}
	if code, _, stderr := h.run(t, "", "balance", "--watch", "--watch-interval", "10ms"); code != ExitUsage {
		t.Errorf("a hundred looks a second end with %d: %s", code, stderr)
	}
}

func TestAnAnswerThatOnlyAgedIsNoChange(t *testing.T) {
	for _, test := range []struct {
		one, other string
		same       bool
	}{
		{`{"balance_micros":5,"as_of":"a"}`, `{"balance_micros":5,"as_of":"b"}`, true},
		{`{"balance_micros":5,"as_of":"a"}`, `{"balance_micros":6,"as_of":"a"}`, false},
		{`{"items":[1]}`, `{"items":[1]}`, true},
		{`{"items":[1]}`, `{"items":[2]}`, false},
		{`[1]`, `[2]`, false},
	} {
		if got := sameBut("as_of", []byte(test.one), []byte(test.other)); got != test.same {
			t.Errorf("%s and %s: same is %v", test.one, test.other, got)
		}
	}
}
