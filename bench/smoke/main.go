// Command smoke runs the main job once against a started installation, as a stranger would: sign in, rent a node,
// be billed, release it. It computes the bill by its own arithmetic from its own reading of the clock and the
// allocation's meter, prints each step with its time, and exits non-zero when anything is wrong.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"github.com/gpuaas/gpuaas/bench/platform"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
	err := run(ctx)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "smoke: WRONG:", err)
		os.Exit(1)
	}
}

type allocation struct {
	ID                string     `json:"id"`
	State             string     `json:"state"`
	RuntimeMode       string     `json:"runtime_mode"`
	WindowSeconds     int64      `json:"window_seconds"`
	RateMicrosPerHour int64      `json:"rate_micros_per_hour"`
	MeteredFrom       *time.Time `json:"metered_from"`
	MeteredTo         *time.Time `json:"metered_to"`
	CostMicros        int64      `json:"cost_micros"`
	SSH               *struct {
		Host     string `json:"host"`
		Port     int    `json:"port"`
		Username string `json:"username"`
	} `json:"ssh"`
	Certificate *struct {
		Wiped  bool     `json:"wiped"`
		Checks []string `json:"checks"`
	} `json:"certificate"`
	Failure *struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"failure"`
}

type entry struct {
	Kind         string     `json:"kind"`
	AmountMicros int64      `json:"amount_micros"`
	PeriodStart  *time.Time `json:"period_start"`
	PeriodEnd    *time.Time `json:"period_end"`
}

// steps prints what was done and how long it took.
type steps struct{ last time.Time }

func (s *steps) done(format string, values ...any) {
	now := time.Now()
	fmt.Printf("%8.3fs  %s\n", now.Sub(s.last).Seconds(), fmt.Sprintf(format, values...))
	s.last = now
}

func run(ctx context.Context) (err error) {
	began := time.Now()
	step := &steps{last: began}
	endpoints, err := platform.ReadEndpoints("")
	if err != nil {
		return err
	}
	tenant, err := platform.Login(ctx, endpoints, "dev-user", "dev123")
	if err != nil {
		return err
	}
	admin, err := platform.Login(ctx, endpoints, "dev-admin", "admin123")
	if err != nil {
		return err
	}
	step.done("signed in as dev-user and dev-admin at %s", endpoints.IssuerURL)

	// It polls more than people do.
	for key, value := range map[string]any{"billing.window_seconds": 2, "provisioning.runtime_mode": "agent", "rate_limit.api_requests_per_minute": 10_000} {
		restore, err := setPolicy(ctx, admin, key, value)
		if err != nil {
			return err
		}
		defer func() {
			// Put back even when the run was interrupted.
			after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
			defer cancel()
			if restoreErr := restore(after); restoreErr != nil && err == nil {
				err = restoreErr
			}
		}()
	}
	step.done("set the billing window to 2 s and the runtime to agent")

	created, err := create(ctx, tenant)
	if err != nil {
		return err
	}
	step.done("asked for a node: %s is %s", created.ID, created.State)

	active, err := waitFor(ctx, tenant, created.ID, "active")
	if err != nil {
		return err
	}
	sawActive := time.Now()
	step.done("active on %s@%s:%d, metered from %s", active.SSH.Username, active.SSH.Host, active.SSH.Port, active.MeteredFrom.Format(time.RFC3339Nano))
	if err := checkActive(active, sawActive); err != nil {
		return err
	}

	entries, err := waitForWindows(ctx, tenant, created.ID, 3)
	if err != nil {
		return err
	}
	step.done("saw %d windows billed", len(entries))

	if err := readStory(ctx, tenant, created.ID, step); err != nil {
		return err
	}

	asked := time.Now()
	answer, err := tenant.Call(ctx, http.MethodPost, "/api/v1/allocations/"+created.ID+"/release", newKey(), nil)
	if err != nil {
		return err
	}
	if answer.Status != http.StatusAccepted {
		return fmt.Errorf("release answered %d: %s", answer.Status, answer.Body)
	}
	released, err := waitFor(ctx, tenant, created.ID, "released")
	if err != nil {
		return err
	}
	step.done("released; the node is proven clean: %v", released.Certificate.Checks)
	if !released.Certificate.Wiped {
		return fmt.Errorf("the certificate does not say that the node was wiped")
	}
	if drift := released.MeteredTo.Sub(asked).Abs(); drift > time.Second {
		return fmt.Errorf("the meter stopped at %s, %s away from when release was asked for", released.MeteredTo, drift)
	}
	if err := checkBill(ctx, tenant, released, step); err != nil {
		return err
	}
	if err := checkWorkflow(ctx, endpoints, created.ID); err != nil {
		return err
	}
	step.done("the workflow allocation/%s has completed", created.ID)
	fmt.Printf("smoke: all is well after %.1fs\n", time.Since(began).Seconds())
	return nil
}

// setPolicy sets one value and answers how to put the old one back.
func setPolicy(ctx context.Context, admin *platform.Session, key string, value any) (func(context.Context) error, error) {
	var before struct {
		Value json.RawMessage `json:"value"`
	}
	if err := admin.Get(ctx, "/api/v1/admin/policies/"+key, &before); err != nil {
		return nil, err
	}
	put := func(ctx context.Context, value any) error {
		answer, err := admin.Call(ctx, http.MethodPut, "/api/v1/admin/policies/"+key, newKey(), map[string]any{"value": value, "reason": "smoke"})
		if err != nil {
			return err
		}
		return answer.Into(&struct{}{})
	}
	if err := put(ctx, value); err != nil {
		return nil, fmt.Errorf("set %s: %w", key, err)
	}
	return func(ctx context.Context) error {
		if err := put(ctx, before.Value); err != nil {
			return fmt.Errorf("put %s back: %w", key, err)
		}
		return nil
	}, nil
}

// create asks until policy has reached every process: a window of another length is released and asked for again.
func create(ctx context.Context, tenant *platform.Session) (allocation, error) {
	var skus struct {
		Items []struct {
			SKU            string `json:"sku"`
			AvailableNodes int64  `json:"available_nodes"`
		} `json:"items"`
	}
	if err := tenant.Get(ctx, "/api/v1/skus", &skus); err != nil {
		return allocation{}, err
	}
	for {
		if err := ctx.Err(); err != nil {
			return allocation{}, err
		}
		for _, sku := range skus.Items {
			if sku.AvailableNodes == 0 {
				continue
			}
			answer, err := tenant.Call(ctx, http.MethodPost, "/api/v1/allocations", newKey(), map[string]any{"sku": sku.SKU, "name": "smoke", "labels": map[string]string{"purpose": "smoke"}})
			if err != nil {
				return allocation{}, err
			}
			var made allocation
			if err := answer.Into(&made); err != nil {
				return allocation{}, fmt.Errorf("create: %w", err)
			}
			if made.WindowSeconds == 2 && made.RuntimeMode == "agent" {
				return made, nil
			}
			if _, err := tenant.Call(ctx, http.MethodPost, "/api/v1/allocations/"+made.ID+"/release", newKey(), nil); err != nil {
				return allocation{}, err
			}
			if _, err := waitFor(ctx, tenant, made.ID, "released"); err != nil {
				return allocation{}, err
			}
		}
		if err := tenant.Get(ctx, "/api/v1/skus", &skus); err != nil {
			return allocation{}, err
		}
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return allocation{}, fmt.Errorf("no node became free: %w", err)
		}
	}
}

func waitFor(ctx context.Context, tenant *platform.Session, id, state string) (allocation, error) {
	for {
		var waited struct {
			Reached    bool       `json:"reached"`
			Allocation allocation `json:"allocation"`
		}
		if err := tenant.Get(ctx, "/api/v1/allocations/"+id+"/wait?timeout_seconds=20&state="+state, &waited); err != nil {
			return allocation{}, err
		}
		now := waited.Allocation
		switch {
		case waited.Reached:
			return now, nil
		case now.State == "failed" || now.State == "release_failed" || now.State == "released":
			return now, fmt.Errorf("%s became %s and not %s: %+v", id, now.State, state, now.Failure)
		}
		if err := ctx.Err(); err != nil {
			return now, fmt.Errorf("%s is %s and not %s: %w", id, now.State, state, err)
		}
	}
}

func checkActive(active allocation, saw time.Time) error {
	switch {
	case active.RuntimeMode != "agent":
		return fmt.Errorf("the runtime is %q and not agent", active.RuntimeMode)
	case active.WindowSeconds != 2:
		return fmt.Errorf("the window is %d s and not 2 s", active.WindowSeconds)
	case active.MeteredFrom == nil || saw.Sub(*active.MeteredFrom).Abs() > time.Second:
		return fmt.Errorf("active was seen at %s, but the meter runs from %v", saw, active.MeteredFrom)
	}
	return nil
}

func ledger(ctx context.Context, tenant *platform.Session, id string) ([]entry, error) {
	var all []entry
	cursor := ""
	for {
		var page struct {
			Items      []entry `json:"items"`
			NextCursor string  `json:"next_cursor"`
		}
		if err := tenant.Get(ctx, "/api/v1/billing/ledger?limit=200&allocation_id="+id+cursor, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.NextCursor == "" {
			return all, nil
		}
		cursor = "&cursor=" + page.NextCursor
	}
}

func waitForWindows(ctx context.Context, tenant *platform.Session, id string, n int) ([]entry, error) {
	for {
		entries, err := ledger(ctx, tenant, id)
		if err != nil || len(entries) >= n {
			return entries, err
		}
		if err := pause(ctx, 250*time.Millisecond); err != nil {
			return nil, fmt.Errorf("only %d windows were billed: %w", len(entries), err)
		}
	}
}

func readStory(ctx context.Context, tenant *platform.Session, id string, step *steps) error {
	var timeline struct {
		Items []struct {
			ToState string `json:"to_state"`
		} `json:"items"`
	}
	if err := tenant.Get(ctx, "/api/v1/allocations/"+id+"/timeline", &timeline); err != nil {
		return err
	}
	told := ""
	for _, item := range timeline.Items {
		told += " → " + item.ToState
	}
	if told != " → requested → provisioning → active" {
		return fmt.Errorf("the timeline tells%s", told)
	}
	step.done("timeline:%s", told)
	var explained struct {
		Source string `json:"source"`
		State  string `json:"state"`
		Doing  string `json:"doing"`
	}
	if err := tenant.Get(ctx, "/api/v1/allocations/"+id+"/explain", &explained); err != nil {
		return err
	}
	if explained.Source != "workflow" || explained.State != "active" || explained.Doing == "" {
		return fmt.Errorf("explain answers %+v", explained)
	}
	step.done("explain: %s", explained.Doing)
	return nil
}

// checkBill is smoke's own arithmetic: floor(rate × milliseconds / 3 600 000) on big integers.
func checkBill(ctx context.Context, tenant *platform.Session, released allocation, step *steps) error {
	entries, err := ledger(ctx, tenant, released.ID)
	if err != nil {
		return err
	}
	var billed int64
	for _, e := range entries {
		billed -= e.AmountMicros // the account sees a charge as negative
	}
	elapsed := released.MeteredTo.UnixMilli() - released.MeteredFrom.UnixMilli()
	owed := new(big.Int).Mul(big.NewInt(released.RateMicrosPerHour), big.NewInt(elapsed))
	owed.Div(owed, big.NewInt(3_600_000))
	if owed.Cmp(big.NewInt(billed)) != 0 || released.CostMicros != billed {
		return fmt.Errorf("%d ms at %d micros an hour cost %s micros; the ledger says %d, the allocation %d", elapsed, released.RateMicrosPerHour, owed, billed, released.CostMicros)
	}
	step.done("billed %d micros in %d entries for %d ms at %d micros an hour: exact", billed, len(entries), elapsed, released.RateMicrosPerHour)
	return nil
}

func checkWorkflow(ctx context.Context, endpoints platform.Endpoints, id string) error {
	temporal, err := client.DialContext(ctx, client.Options{HostPort: endpoints.TemporalAddress, Namespace: "gpuaas", Logger: silent{}})
	if err != nil {
		return fmt.Errorf("reach Temporal: %w", err)
	}
	defer temporal.Close()
	for {
		described, err := temporal.DescribeWorkflowExecution(ctx, "allocation/"+id, "")
		if err != nil {
			return fmt.Errorf("describe the workflow: %w", err)
		}
		status := described.GetWorkflowExecutionInfo().GetStatus()
		if status == enums.WORKFLOW_EXECUTION_STATUS_COMPLETED {
			return nil
		}
		if status != enums.WORKFLOW_EXECUTION_STATUS_RUNNING {
			return fmt.Errorf("the workflow ended as %s", status)
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("the workflow still runs: %w", err)
		}
	}
}

// silent keeps the SDK's chatter out of the report.
type silent struct{}

var _ log.Logger = silent{}

func (silent) Debug(string, ...any) {}
func (silent) Info(string, ...any)  {}
func (silent) Warn(string, ...any)  {}
func (silent) Error(string, ...any) {}

func pause(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func newKey() string { return "smoke-" + rand.Text() }
