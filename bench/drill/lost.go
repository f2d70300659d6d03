package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
)

// lostAtOnce is how many allocations in use lose their workflows.
const lostAtOnce = 3

// temporal is Temporal itself, which whoever reaches it may do everything in.
func (s *storm) temporal() (client.Client, error) {
	temporal, err := client.NewLazyClient(client.Options{HostPort: s.endpoints.TemporalAddress, Namespace: "gpuaas", Logger: sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler))})
	if err != nil {
		return nil, fmt.Errorf("reach Temporal: %w", err)
	}
	return temporal, nil
}

// loseWorkflows terminates the workflows of some allocations in use, one of them while it is being released, and has an operator resume what
// reconciliations find. The worker that recalls them is killed meanwhile.
func (s *storm) loseWorkflows(ctx context.Context) error {
	ids := s.activeIDs()
	if len(ids) < lostAtOnce {
		return errors.New("too little is active")
	}
	lost := map[string]bool{}
	for _, id := range ids[:lostAtOnce] {
		lost[id] = true
	}
	released := ids[0]
	if err := s.release(ctx, released); err != nil {
		return err
	}
	s.forget(released)
	// What was heard and not written down is lost with the run, and would have to be asked for again.
	if _, err := s.waitState(ctx, released, "releasing", "released"); err != nil {
		return err
	}
	if err := s.terminate(ctx, lost); err != nil {
		return err
	}
	deadline, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for run := 0; len(lost) > 0; run++ {
		if err := s.resumeFound(deadline, fmt.Sprint(run), lost); err != nil {
			return fmt.Errorf("%d lost workflows are not resumed: %w", len(lost), err)
		}
	}
	if err := s.killNamed(ctx, "billing-worker"); err != nil {
		return err
	}
	if _, err := s.waitState(ctx, released, "released"); err != nil {
		return err
	}
	return s.exchange(ctx, "lost")
}

// terminate ends workflows as somebody with Temporal's own tools does. One that has ended by itself, or whose allocation has, is not lost; of
// the latter the oracle has to know that they did not end by themselves.
func (s *storm) terminate(ctx context.Context, lost map[string]bool) error {
	temporal, err := s.temporal()
	if err != nil {
		return err
	}
	defer temporal.Close()
	for id := range lost {
		err := temporal.TerminateWorkflow(ctx, "allocation/"+id, "", "drill")
		state, readErr := s.waitState(ctx, id, "active", "releasing", "released")
		if readErr != nil {
			return readErr
		}
		if err == nil && state == "released" {
			s.cutOff[id] = true
		}
		if err != nil || state == "released" {
			delete(lost, id)
		}
	}
	fmt.Printf("drill: %d workflows of allocations were terminated\n", len(lost))
	if len(lost) < lostAtOnce-1 {
		return errors.New("nearly all of them had ended")
	}
	return nil
}

// resumeFound makes one reconciliation and resumes what it finds of the lost.
func (s *storm) resumeFound(ctx context.Context, run string, lost map[string]bool) error {
	const of = "/api/v1/admin/reconciliation/"
	answer, err := s.insist(ctx, s.admin, http.MethodPost, of+"runs", "lost-"+run, map[string]any{})
	if err != nil {
		return err
	}
	var made struct {
		ID    string `json:"id"`
		State string `json:"state"`
	}
	if err := answer.Into(&made); err != nil {
		return err
	}
	for made.State == "running" {
		if err := pause(ctx, 300*time.Millisecond); err != nil {
			return err
		}
		_ = s.admin.Get(ctx, of+"runs/"+made.ID, &made) // an API that is away is asked again
	}
	var found struct {
		Items []struct {
			ID      string `json:"id"`
			Subject string `json:"subject"`
		} `json:"items"`
	}
	if err := s.admin.Get(ctx, of+"findings?state=open&kind=allocation_without_workflow&limit=200", &found); err != nil {
		return err
	}
	for _, finding := range found.Items {
		if !lost[finding.Subject] {
			return fmt.Errorf("%s is said to have no workflow, and nobody took it", finding.Subject)
		}
		answer, err := s.insist(ctx, s.admin, http.MethodPost, of+"findings/"+finding.ID+"/resume", "resume-"+finding.ID, map[string]any{"reason": "drill"})
		if err != nil {
			return err
		}
		if answer.Status != http.StatusOK {
			return fmt.Errorf("resuming %s answered %d: %s", finding.Subject, answer.Status, answer.Body)
		}
		delete(lost, finding.Subject)
	}
	return nil
}

// killNamed kills one of the separate programs and starts it again.
func (s *storm) killNamed(ctx context.Context, name string) error {
	for _, p := range s.separate {
		if strings.HasPrefix(p.name, name) {
			p.kill()
			s.killed[p.name]++
			if err := s.randomWait(ctx, time.Second); err != nil {
				return err
			}
			return p.start()
		}
	}
	return fmt.Errorf("there is no program %s", name)
}
