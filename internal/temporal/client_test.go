//go:build integration

package temporal_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"log/slog"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
)

// lines collects what is logged; a worker logs from many goroutines.
type lines struct {
	mutex  sync.Mutex
	buffer bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.buffer.Write(p)
}

func (l *lines) String() string {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.buffer.String()
}

func TestTheCorrelationIDTravelsFromTheCallerToTheStepItsLogAndItsFault(t *testing.T) {
	config := temporaltest.New(t)
	written := &lines{}
	log := telemetry.NewLogger(written, slog.LevelInfo)
	cluster, err := temporal.Dial(t.Context(), config, log)
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()

	seen := make(chan string, 1)
	step := func(ctx context.Context) error {
		seen <- telemetry.Correlation(ctx)
		return fault.New(fault.NodeInUse, "It is held.").With(map[string]any{"node": "n1"})
	}
	run := func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 10 * time.Second})
		return workflow.ExecuteActivity(ctx, step).Get(ctx, nil)
	}
	polling := worker.New(cluster, "queue", worker.Options{Interceptors: []interceptor.WorkerInterceptor{temporal.Interceptor(log)}})
	polling.RegisterWorkflow(run)
	polling.RegisterActivity(step)
	if err := polling.Start(); err != nil {
		t.Fatal(err)
	}
	defer polling.Stop()

	ctx, cancel := context.WithTimeout(telemetry.WithCorrelation(t.Context(), "correlation-7"), time.Minute)
	defer cancel()
	execution, err := cluster.ExecuteWorkflow(ctx, client.StartWorkflowOptions{TaskQueue: "queue"}, run)
	if err != nil {
		t.Fatal(err)
	}
	found := temporal.FromError(execution.Get(ctx, nil))
	if found.Code != fault.NodeInUse || found.Message != "It is held." || found.Details["node"] != "n1" {
		t.Errorf("the fault comes back as %+v", found)
	}
	if got := <-seen; got != "correlation-7" {
		t.Errorf("the step sees the correlation id %q", got)
	}
	var line string
	for _, one := range strings.Split(written.String(), "\n") {
		if strings.Contains(one, "a step ended with an error") {
			line = one
		}
	}
	if !strings.Contains(line, `"correlation_id":"correlation-7"`) || !strings.Contains(line, "It is held.") {
		t.Errorf("the log says %q", line)
	}
}

func TestDialWaitsAndGivesUpWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := temporal.Dial(ctx, temporal.Config{Address: "127.0.0.1:1", Namespace: "none"}, slog.New(slog.DiscardHandler))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a cluster that is away answers %v", err)
	}
}

func TestASignalOfANamedRequestIsTakenOnce(t *testing.T) {
	cluster, err := temporal.Dial(t.Context(), temporaltest.New(t), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	const queue, signal = "signals", "word"
	listen := func(ctx workflow.Context) ([]string, error) {
		var heard []string
		for words := workflow.GetSignalChannel(ctx, signal); ; {
			var word string
			if words.Receive(ctx, &word); word == "end" {
				return heard, nil
			}
			heard = append(heard, word)
		}
	}
	listening := worker.New(cluster, queue, worker.Options{})
	listening.RegisterWorkflowWithOptions(listen, workflow.RegisterOptions{Name: "listen"})
	if err := listening.Start(); err != nil {
		t.Fatal(err)
	}
	defer listening.Stop()
	options := client.StartWorkflowOptions{ID: "listener", TaskQueue: queue}
	for _, sent := range []struct{ request, word string }{{"r1", "a"}, {"r1", "a"}, {"r2", "b"}, {"", "c"}, {"", "c"}} {
		if _, err := cluster.SignalWithStartWorkflow(temporal.WithRequestID(t.Context(), sent.request), options.ID, signal, sent.word, options, "listen"); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := cluster.SignalWorkflow(temporal.WithRequestID(t.Context(), "r3"), options.ID, "", signal, "d"); err != nil {
			t.Fatal(err)
		}
	}
	if err := cluster.SignalWorkflow(t.Context(), options.ID, "", signal, "end"); err != nil {
		t.Fatal(err)
	}
	var heard []string
	if err := cluster.GetWorkflow(t.Context(), options.ID, "").Get(t.Context(), &heard); err != nil || strings.Join(heard, "") != "abccd" {
		t.Errorf("it heard %v, %v", heard, err)
	}
}
