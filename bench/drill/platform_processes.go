package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// program is one process of the platform, started again by the drill whenever the drill has killed it.
type program struct {
	name    string
	command []string
	env     []string
	log     string

	mutex sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{}
}

func (p *program) start() error {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd := exec.Command(p.command[0], p.command[1:]...)
	cmd.Env = append(ownServers(), p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own: the drill's own interrupt must not reach the programs before the drill stops them.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		_ = log.Close()
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is the drill's doing, and its log tells the rest
		_ = log.Close()
		close(ended)
	}()
	p.cmd, p.ended = cmd, ended
	return nil
}

// kill is kill -9, and waits until the process is gone.
func (p *program) kill() {
	p.mutex.Lock()
	cmd, ended := p.cmd, p.ended
	p.mutex.Unlock()
	if cmd == nil || cmd.Process == nil {
		return
	}
	_ = cmd.Process.Kill()
	<-ended
}

// hasEnded says whether it was started and runs no more.
func (p *program) hasEnded() bool {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	select {
	case <-p.ended:
		return true
	default:
		return p.cmd == nil
	}
}

// stop asks politely and kills what does not listen.
func (p *program) stop(patience time.Duration) error {
	p.mutex.Lock()
	cmd, ended := p.cmd, p.ended
	p.mutex.Unlock()
	if cmd == nil {
		return nil
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
		if code := cmd.ProcessState.ExitCode(); code != 0 {
			return fmt.Errorf("%s ended with %d after SIGTERM", p.name, code)
		}
		return nil
	case <-time.After(patience):
		_ = cmd.Process.Kill()
		<-ended
		return fmt.Errorf("%s did not end within %s", p.name, patience)
	}
}

// waitReady reads the program's log until a line begins with "ready" that was not there before.
func (p *program) waitReady(ctx context.Context, after int) error {
	for {
		text, err := os.ReadFile(p.log)
		if err != nil {
			return err
		}
		if countReady(string(text)) > after {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended before it was ready; see %s", p.name, p.log)
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w; see %s", p.name, ctx.Err(), p.log)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (p *program) readyCount() int {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return 0
	}
	return countReady(string(text))
}

func countReady(text string) int {
	return strings.Count("\n"+text, "\nready")
}

// killPostgres kills the postmaster itself, as a crash of the machine's database would.
func killPostgres(dataDir string) error {
	text, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if err != nil {
		return fmt.Errorf("find the postmaster: %w", err)
	}
	var pid int
	if _, err := fmt.Sscanf(string(text), "%d", &pid); err != nil || pid <= 1 {
		return errors.New("postmaster.pid names no process")
	}
	return syscall.Kill(pid, syscall.SIGKILL)
}

// ownServers is the environment without a database that was given: the drill kills its own.
func ownServers() []string {
	return slices.DeleteFunc(os.Environ(), func(variable string) bool { return strings.HasPrefix(variable, "DATABASE_URL=") })
}
