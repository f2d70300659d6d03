package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gpuaas/gpuaas/bench/platform"
)

// windowSeconds is short, so that a drill of minutes sees hundreds of windows.
const windowSeconds = 2

// storm is one run: the programs, the clients, and what was asked of the platform.
type storm struct {
	config    settings
	random    *mathrand.Rand
	directory string
	env       []string
	whole     *program
	infra     *program
	separate  []*program
	endpoints platform.Endpoints
	extra     extraEndpoints
	tenant    *platform.Session
	admin     *platform.Session
	log       *callLog
	logFile   io.Closer
	killed    map[string]int
	// cutOff are the allocations that had ended when their workflows, which had not, were terminated.
	cutOff map[string]bool

	mutex  sync.Mutex
	active map[string]bool
}

func newStorm(config settings, random *mathrand.Rand) (*storm, error) {
	directory, err := os.MkdirTemp("", "gpuaas-drill-")
	if err != nil {
		return nil, err
	}
	// Postgres does not run as root and must be able to enter.
	if err := os.Chmod(directory, 0o755); err != nil { //nolint:gosec // the secrets in it are 0600 each
		return nil, err
	}
	base, err := freeBase()
	if err != nil {
		return nil, err
	}
	file, err := os.Create(filepath.Join(directory, "calls.jsonl"))
	if err != nil {
		return nil, err
	}
	fmt.Printf("drill: everything is kept in %s until the drill ends well\n", directory)
	return &storm{
		config: config, random: random, directory: directory, log: &callLog{out: file}, logFile: file,
		killed: map[string]int{}, cutOff: map[string]bool{}, active: map[string]bool{},
		env: []string{"GPUAAS_DATA=" + directory, "GPUAAS_PORT_BASE=" + strconv.Itoa(base),
			"GPUAAS_SIM_NODES=" + strconv.Itoa(config.nodes), "PLANT=" + plantOfNodes(config.plant)},
	}, nil
}

// plantOfNodes is the plant that the simulated nodes themselves carry; the others are planted in the ledger.
func plantOfNodes(plant string) string {
	if plant == plantSkipWipe {
		return plant
	}
	return ""
}

// freeBase finds a hundred ports of which the first and the last are free.
func freeBase() (int, error) {
	for base := 21000; base < 60000; base += 100 {
		if portFree(base) && portFree(base+3) && portFree(base+99) {
			return base, nil
		}
	}
	return 0, errors.New("no hundred ports are free")
}

func portFree(port int) bool {
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return listener.Close() == nil
}

func (s *storm) program(name string, env []string, command ...string) *program {
	return &program{name: name, command: command, env: append(append([]string(nil), s.env...), env...), log: filepath.Join(s.directory, name+".log")}
}

// close stops whatever runs, and removes everything when the drill ended well; otherwise logs, calls and data stay as evidence.
func (s *storm) close(endedWell bool) error {
	var trouble error
	for _, p := range s.separate {
		trouble = errors.Join(trouble, p.stop(30*time.Second))
	}
	for _, p := range []*program{s.whole, s.infra} {
		if p != nil {
			trouble = errors.Join(trouble, p.stop(60*time.Second))
		}
	}
	_ = s.logFile.Close()
	if trouble != nil {
		return fmt.Errorf("the logs stay in %s: %w", s.directory, trouble)
	}
	if !endedWell {
		fmt.Printf("drill: the evidence stays in %s; GPUAAS_DATA=%s bin/devstack down-clean removes it\n", s.directory, s.directory)
		return nil
	}
	clean := exec.Command("bin/devstack", "down-clean")
	clean.Env = append(ownServers(), s.env...)
	if output, err := clean.CombinedOutput(); err != nil {
		return fmt.Errorf("clean up: %w: %s", err, output)
	}
	return os.RemoveAll(s.directory)
}

func (s *storm) startWhole(ctx context.Context) error {
	s.whole = s.program("up", nil, "bin/devstack", "up")
	if err := s.bringUp(ctx, s.whole); err != nil {
		return err
	}
	if err := s.signIn(ctx); err != nil {
		return err
	}
	// Short times, so that a node that is silent is noticed within the drill.
	if err := s.setPolicies(ctx, map[string]int{
		"billing.window_seconds": windowSeconds, "release.max_attempts": 3, "release.task_schedule_to_start_seconds": 5,
		"release.backoff_initial_seconds": 1, "release.backoff_maximum_seconds": 2,
		"reconciliation.lag_tolerance_seconds": 10,
		// It polls more than people do, and rate limits are not what it is about.
		"rate_limit.api_requests_per_minute": 100_000, "rate_limit.admin_overview_requests_per_minute": 100_000,
	}); err != nil {
		return err
	}
	return s.credit(ctx)
}

func (s *storm) signIn(ctx context.Context) error {
	var err error
	if s.tenant, err = platform.Login(ctx, s.endpoints, "dev-user", "dev123"); err != nil {
		return err
	}
	s.admin, err = platform.Login(ctx, s.endpoints, "dev-admin", "admin123")
	return err
}

func (s *storm) setPolicies(ctx context.Context, values map[string]int) error {
	for key, value := range values {
		if err := s.setPolicy(ctx, key, value); err != nil {
			return err
		}
	}
	return nil
}

// bringUp starts a program that says when it is ready and reads where everything is.
func (s *storm) bringUp(ctx context.Context, p *program) error {
	before := p.readyCount()
	if err := p.start(); err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	if err := p.waitReady(waiting, before); err != nil {
		return err
	}
	var err error
	if s.endpoints, err = platform.ReadEndpoints(s.directory); err != nil {
		return err
	}
	s.extra, err = readExtraEndpoints(s.directory)
	return err
}

func (s *storm) setPolicy(ctx context.Context, key string, value int) error {
	answer, err := s.insist(ctx, s.admin, http.MethodPut, "/api/v1/admin/policies/"+key, "policy-"+key, map[string]any{"value": value, "reason": "drill"})
	if err != nil {
		return err
	}
	return answer.Into(&struct{}{})
}

// credit gives the tenant more than the drill can use up.
func (s *storm) credit(ctx context.Context) error {
	account, err := s.account(ctx)
	if err != nil {
		return err
	}
	answer, err := s.insist(ctx, s.admin, http.MethodPost, "/api/v1/admin/accounts/"+account+"/adjustments", "drill-credit",
		map[string]any{"amount_minor": 1_000_000, "currency": "usd", "reason": "drill"})
	if err != nil {
		return err
	}
	return answer.Into(&struct{}{})
}

func (s *storm) account(ctx context.Context) (string, error) {
	var me struct {
		Account struct {
			ID string `json:"id"`
		} `json:"account"`
	}
	err := s.tenant.Get(ctx, "/api/v1/me", &me)
	return me.Account.ID, err
}

// insist repeats a call with its key until the platform gives a definite answer: that is what the key is for.
func (s *storm) insist(ctx context.Context, session *platform.Session, method, path, key string, body any) (platform.Answer, error) {
	for {
		answer, err := session.Call(ctx, method, path, key, body)
		if err == nil && answer.Status < 500 && answer.Code() != "idempotency_in_flight" && answer.Status != http.StatusTooManyRequests {
			return answer, nil
		}
		if err := pause(ctx, 300*time.Millisecond); err != nil {
			return answer, fmt.Errorf("%s %s never got a definite answer: %w", method, path, err)
		}
	}
}

// order is what somebody asks for.
type order struct {
	sku string
	// project is whose it is; the default project of the one who asks when empty.
	project string
}

// create asks for a node until the answer is definite, logs every call, and asks once more with the same key. It answers the last call.
func (s *storm) create(ctx context.Context, wanted order, key string) (call, error) {
	body := map[string]any{"sku": wanted.sku, "name": "drill", "labels": map[string]string{"key": key}}
	if wanted.project != "" {
		body["project_id"] = wanted.project
	}
	var last call
	for definite := 0; definite < 2; {
		answer, err := s.tenant.Call(ctx, http.MethodPost, "/api/v1/allocations", key, body)
		var made struct {
			ID string `json:"id"`
		}
		if err == nil && answer.Status == http.StatusCreated {
			if err := answer.Into(&made); err != nil {
				return last, err
			}
		}
		last = call{Operation: "create", Key: key, Allocation: made.ID, Status: answer.Status, Code: answer.Code(), Began: answer.Began, Ended: answer.Ended}
		s.log.add(last)
		if err == nil && answer.Status != 0 && answer.Status < 500 && answer.Code() != "idempotency_in_flight" {
			definite++
			continue
		}
		if err := pause(ctx, 300*time.Millisecond); err != nil {
			return last, err
		}
	}
	return last, nil
}

// release asks until it was accepted, or the platform says that it already is.
func (s *storm) release(ctx context.Context, id string) error {
	key := "release-" + id
	for {
		answer, err := s.tenant.Call(ctx, http.MethodPost, "/api/v1/allocations/"+id+"/release", key, nil)
		s.log.add(call{Operation: "release", Key: key, Allocation: id, Status: answer.Status, Code: answer.Code(), Began: answer.Began, Ended: answer.Ended})
		if err == nil && (answer.Status == http.StatusAccepted || answer.Code() == "allocation_already_releasing" || answer.Code() == "allocation_not_active") {
			return nil
		}
		if err := pause(ctx, 300*time.Millisecond); err != nil {
			return fmt.Errorf("release of %s: %w", id, err)
		}
	}
}

// waitState waits until an allocation is in a state, whatever the platform goes through meanwhile.
func (s *storm) waitState(ctx context.Context, id string, states ...string) (string, error) {
	last := ""
	for {
		var now struct {
			State string `json:"state"`
		}
		reading, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := s.tenant.Get(reading, "/api/v1/allocations/"+id, &now)
		cancel()
		if err == nil {
			last = now.State
			for _, state := range states {
				if now.State == state {
					return now.State, nil
				}
			}
		}
		if err := pause(ctx, 300*time.Millisecond); err != nil {
			return last, fmt.Errorf("%s is %s and not %s: %w", id, last, strings.Join(states, " or "), err)
		}
	}
}

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
