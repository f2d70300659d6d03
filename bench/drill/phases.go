package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// fill holds the wanted number of allocations at once, so that at least fewest are active whenever something is killed.
func (s *storm) fill(ctx context.Context) error {
	if err := s.rent(ctx, s.config.allocations, "fill"); err != nil {
		return err
	}
	if active := len(s.activeIDs()); active <= fewest {
		return fmt.Errorf("%d allocations are active, and it takes more than %d", active, fewest)
	}
	return nil
}

// fewest is how many allocations are active at any time; one more is being exchanged.
const fewest = 20

// rent asks for n nodes at once and waits until all are usable.
func (s *storm) rent(ctx context.Context, n int, intent string) error {
	var skus struct {
		Items []struct {
			SKU            string `json:"sku"`
			AvailableNodes int64  `json:"available_nodes"`
		} `json:"items"`
	}
	if err := s.tenant.Get(ctx, "/api/v1/skus", &skus); err != nil {
		return err
	}
	var wanted []string
	for _, sku := range skus.Items {
		for range sku.AvailableNodes {
			wanted = append(wanted, sku.SKU)
		}
	}
	if len(wanted) < n {
		return fmt.Errorf("%d nodes are free and %d are wanted", len(wanted), n)
	}
	group, ctx := errgroup.WithContext(ctx)
	for i, sku := range wanted[:n] {
		group.Go(func() error {
			made, err := s.create(ctx, order{sku: sku}, fmt.Sprintf("%s-%d", intent, i))
			id := made.Allocation
			if err != nil {
				return err
			}
			if id == "" {
				return nil // refused, and logged as such
			}
			state, err := s.waitState(ctx, id, "active", "failed")
			if err == nil && state == "active" {
				s.mutex.Lock()
				s.active[id] = true
				s.mutex.Unlock()
			}
			return err
		})
	}
	return group.Wait()
}

func (s *storm) activeIDs() []string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	ids := make([]string, 0, len(s.active))
	for id := range s.active {
		ids = append(ids, id)
	}
	sort.Strings(ids)
	return ids
}

func (s *storm) forget(id string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	delete(s.active, id)
}

// exchange releases one allocation and asks for another while the storm goes on.
func (s *storm) exchange(ctx context.Context, intent string) error {
	ids := s.activeIDs()
	if len(ids) == 0 {
		return errors.New("nothing is active")
	}
	id := ids[s.random.IntN(len(ids))]
	if err := s.release(ctx, id); err != nil {
		return err
	}
	s.forget(id)
	if _, err := s.waitState(ctx, id, "released"); err != nil {
		return err
	}
	return s.rent(ctx, 1, intent)
}

func (s *storm) randomWait(ctx context.Context, most time.Duration) error {
	return pause(ctx, time.Duration(s.random.Int64N(int64(most))))
}

// killWhole kills everything there is, at random moments of work under way.
func (s *storm) killWhole(ctx context.Context) error {
	for i := range max(s.config.kills/4, 3) {
		working, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- s.exchange(working, fmt.Sprintf("whole-%d", i)) }()
		if err := s.randomWait(ctx, 4*time.Second); err != nil {
			stop()
			return err
		}
		s.whole.kill()
		s.killed["up"]++
		if err := s.bringUp(ctx, s.whole); err != nil {
			stop()
			return err
		}
		err := <-done
		stop()
		if err != nil {
			return err
		}
	}
	return nil
}

// startSeparate stops the one process, if there is one, cleanly, and starts the same data as separate programs.
func (s *storm) startSeparate(ctx context.Context) error {
	if s.whole != nil {
		if err := s.whole.stop(60 * time.Second); err != nil {
			return err
		}
		s.whole = nil
	}
	s.infra = s.program("infra", nil, "bin/devstack", "infra")
	if err := s.bringUp(ctx, s.infra); err != nil {
		return err
	}
	env, err := s.programEnvironment(ctx)
	if err != nil {
		return err
	}
	for _, name := range []string{"api", "billing-worker", "provisioning-worker", "webhook-worker", "outbox-relay", "notification-relay", "node-agent"} {
		var more []string
		if name == "node-agent" {
			more = []string{"GPUAAS_NODE_MODE=sim"}
		}
		p := s.program(name, append(append([]string(nil), env...), more...), "bin/"+name)
		if err := p.start(); err != nil {
			return err
		}
		s.separate = append(s.separate, p)
	}
	return nil
}

// programEnvironment asks the development stack how programs are configured against it.
func (s *storm) programEnvironment(ctx context.Context) ([]string, error) {
	command := exec.CommandContext(ctx, "bin/devstack", "env")
	command.Env = append(ownServers(), s.env...)
	var complaint bytes.Buffer
	command.Stderr = &complaint
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("bin/devstack env: %w: %s", err, complaint.String())
	}
	var env []string
	for _, line := range strings.Split(string(output), "\n") {
		line = strings.TrimPrefix(strings.TrimSpace(line), "export ")
		name, value, found := strings.Cut(line, "=")
		if !found {
			continue
		}
		env = append(env, name+"="+strings.Trim(value, `'"`))
	}
	return env, nil
}

// waitAnswering waits until the API answers again.
func (s *storm) waitAnswering(ctx context.Context) error {
	for {
		reading, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := s.account(reading)
		cancel()
		if err == nil {
			return nil
		}
		if pauseErr := pause(ctx, 300*time.Millisecond); pauseErr != nil {
			return fmt.Errorf("the API does not answer: %w", err)
		}
	}
}

// killSingles kills one program, or Postgres, at a time.
func (s *storm) killSingles(ctx context.Context) error {
	for i := range s.config.kills - max(s.config.kills/4, 3) {
		working, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- s.exchange(working, fmt.Sprintf("single-%d", i)) }()
		err := s.randomWait(ctx, 3*time.Second)
		if err == nil {
			err = s.killOne(ctx, i)
		}
		if err == nil {
			err = <-done
		}
		stop()
		if err != nil {
			return err
		}
	}
	return nil
}

// killOne takes turns, so that a drill kills each program and Postgres at least once.
func (s *storm) killOne(ctx context.Context, turn int) error {
	victim := turn % (len(s.separate) + 1)
	if victim == len(s.separate) {
		s.killed["postgres"]++
		return killPostgres(s.endpoints.PostgresDataDir)
	}
	p := s.separate[victim]
	p.kill()
	s.killed[p.name]++
	if err := s.randomWait(ctx, 2*time.Second); err != nil {
		return err
	}
	return p.start()
}

// outage takes away the workers for longer than three windows.
func (s *storm) outage(ctx context.Context) error {
	for _, p := range s.separate {
		if strings.HasSuffix(p.name, "-worker") {
			p.kill()
			s.killed[p.name]++
		}
	}
	if err := pause(ctx, 4*windowSeconds*time.Second); err != nil {
		return err
	}
	for _, p := range s.separate {
		if strings.HasSuffix(p.name, "-worker") {
			if err := p.start(); err != nil {
				return err
			}
		}
	}
	return s.exchange(ctx, "outage")
}

// silentRelease silences the node of an allocation through its release until release_failed, and brings it out.
func (s *storm) silentRelease(ctx context.Context) error {
	ids := s.activeIDs()
	if len(ids) == 0 {
		return errors.New("nothing is active")
	}
	id := ids[0]
	var found struct {
		NodeID string `json:"node_id"`
	}
	if err := s.tenant.Get(ctx, "/api/v1/allocations/"+id, &found); err != nil {
		return err
	}
	if err := s.tellNode(ctx, found.NodeID, "vanish"); err != nil {
		return err
	}
	if err := s.release(ctx, id); err != nil {
		return err
	}
	s.forget(id)
	if _, err := s.waitState(ctx, id, "release_failed"); err != nil {
		return err
	}
	if err := s.tellNode(ctx, found.NodeID, "return"); err != nil {
		return err
	}
	answer, err := s.insist(ctx, s.admin, http.MethodPost, "/api/v1/admin/allocations/"+id+"/force-release", "force-"+id, map[string]any{"reason": "the node is back"})
	if err != nil {
		return err
	}
	if answer.Status != http.StatusAccepted {
		return fmt.Errorf("force-release answered %d: %s", answer.Status, answer.Body)
	}
	_, err = s.waitState(ctx, id, "released")
	return err
}

// churn releases half, rents again and releases all but a few, which stay for the oracle to find running.
func (s *storm) churn(ctx context.Context) error {
	ids := s.activeIDs()
	if err := s.releaseAll(ctx, ids[:len(ids)/2]); err != nil {
		return err
	}
	if err := s.rent(ctx, len(ids)/4, "churn"); err != nil {
		return err
	}
	ids = s.activeIDs()
	return s.releaseAll(ctx, ids[:len(ids)-min(4, len(ids))])
}

func (s *storm) releaseAll(ctx context.Context, ids []string) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, id := range ids {
		group.Go(func() error {
			if err := s.release(ctx, id); err != nil {
				return err
			}
			s.forget(id)
			_, err := s.waitState(ctx, id, "released")
			return err
		})
	}
	return group.Wait()
}

// extraEndpoints is what only the drill reads of endpoints.json.
type extraEndpoints struct {
	DatabaseAdminURL string `json:"database_admin_url"`
	DatabaseOwnerURL string `json:"database_owner_url"`
	SimStateDir      string `json:"sim_state_dir"`
	SimControlURL    string `json:"simulator_url"`
	NATSURL          string `json:"nats_url"`
	// StripeURL is the stand-in, StripePaymentsLog the file in which it says what money moved.
	StripeURL         string `json:"stripe_url"`
	StripePaymentsLog string `json:"stripe_payments_log"`
}

func readExtraEndpoints(directory string) (extraEndpoints, error) {
	var extra extraEndpoints
	text, err := os.ReadFile(filepath.Join(directory, "endpoints.json"))
	if err != nil {
		return extra, err
	}
	return extra, json.Unmarshal(text, &extra)
}
