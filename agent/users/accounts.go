// Package users makes and unmakes the operating-system user of a lease on a Linux host with shadow's tools (useradd and
// its kin, which keep passwd, shadow and group consistent under their own locks). It imports agent and domain.
package users

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gpuaas/gpuaas/agent"
	"github.com/gpuaas/gpuaas/domain/node"
)

// Accounts is the host's users and their authorized keys.
type Accounts struct {
	// HomeRoot is where homes are made; root's alone to write.
	HomeRoot string
}

// modes of what a tenant owns.
const (
	privateDirectory = 0o700
	privateFile      = 0o600
)

// noPassword is one that nobody could type, yet not a lock: sshd refuses locked accounts even their keys.
const noPassword = "*"

// Provision makes the group, the user and the home, whichever is missing.
func (a Accounts) Provision(ctx context.Context, user agent.User) (string, error) {
	home := filepath.Join(a.HomeRoot, user.Name)
	if err := makeGroup(ctx, user); err != nil {
		return "", err
	}
	if err := makeUser(ctx, user, home); err != nil {
		return "", err
	}
	return home, makeHome(home, user)
}

func makeGroup(ctx context.Context, user agent.User) error {
	if made, err := stands("/etc/group", "group", user); made || err != nil {
		return err
	}
	return tool(ctx, "groupadd", "--gid", strconv.FormatInt(user.UID, 10), user.Name)
}

func makeUser(ctx context.Context, user agent.User, home string) error {
	if made, err := stands("/etc/passwd", "user", user); made || err != nil {
		return err
	}
	shell := "/bin/bash"
	if _, err := os.Stat(shell); err != nil {
		shell = "/bin/sh"
	}
	uid := strconv.FormatInt(user.UID, 10)
	return tool(ctx, "useradd", "--uid", uid, "--gid", uid, "--home-dir", home, "--no-create-home", "--shell", shell,
		"--no-log-init", "--password", noPassword, "--comment", "GPU lease", user.Name)
}

// stands says whether the file of accounts holds the user's entry. One that has only its name, or only its number, is
// somebody else's and an error.
func stands(path, what string, user agent.User) (bool, error) {
	lines, err := entries(path)
	if err != nil {
		return false, err
	}
	for _, fields := range lines {
		named, numbered := fields[0] == user.Name, number(fields, 2) == user.UID
		if named && numbered {
			return true, nil
		}
		if named || numbered {
			return false, fmt.Errorf("the %s %s has the name or the number (%d) of another lease's", what, fields[0], user.UID)
		}
	}
	return false, nil
}

// makeHome makes the directory; one that is there must be a directory of this user, or of root when an earlier attempt
// ended between making it and giving it away.
func makeHome(home string, user agent.User) error {
	if err := os.Mkdir(home, privateDirectory); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the home: %w", err)
	}
	info, err := os.Lstat(home)
	if err != nil {
		return fmt.Errorf("look at the home: %w", err)
	}
	owner, known := ownerOf(info)
	if !info.IsDir() || !known || (owner != user.UID && owner != 0) {
		return fmt.Errorf("%s is there already and is not the home of %s", home, user.Name)
	}
	if err := errors.Join(os.Lchown(home, int(user.UID), int(user.UID)), os.Chmod(home, privateDirectory)); err != nil {
		return fmt.Errorf("give the home to its user: %w", err)
	}
	return nil
}

// Lock expires the account, locks its password and ends what could start a process for it later.
func (a Accounts) Lock(ctx context.Context, user agent.User) error {
	present, err := exists(user)
	if err != nil {
		return err
	}
	if present {
		if err := lockOut(ctx, user); err != nil {
			return err
		}
	}
	for _, path := range Starters(user.Name) {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", path, err)
		}
	}
	return nil
}

// lockOut expires the account and locks its password. Day 1 is long past: sshd, login, cron and su refuse an expired account,
// with keys and without.
func lockOut(ctx context.Context, user agent.User) error {
	return tool(ctx, "usermod", "--lock", "--expiredate", "1", user.Name)
}

// Suspend locks the user out and leaves everything in its place: an expired account's crontab and linger start nothing.
func (a Accounts) Suspend(ctx context.Context, user agent.User) error {
	if err := mustExist(user); err != nil {
		return err
	}
	return lockOut(ctx, user)
}

// Resume gives the account back the password that nobody can type, which is no lock, and the life it had.
func (a Accounts) Resume(ctx context.Context, user agent.User) error {
	if err := mustExist(user); err != nil {
		return err
	}
	return tool(ctx, "usermod", "--password", noPassword, "--expiredate", "", user.Name)
}

func mustExist(user agent.User) error {
	present, err := exists(user)
	if err == nil && !present {
		err = fmt.Errorf("there is no user %s", user.Name)
	}
	return err
}

// Starters are the files by which a user has processes started when nobody is logged in: crontabs, and systemd's
// linger. Jobs of at carry no name; they are files of the user's in a scrub root.
func Starters(name string) []string {
	return []string{"/var/spool/cron/crontabs/" + name, "/var/spool/cron/" + name, "/var/lib/systemd/linger/" + name}
}

// Remove deletes the user and then its group.
func (a Accounts) Remove(ctx context.Context, user agent.User) error {
	present, err := exists(user)
	if err != nil {
		return err
	}
	if present {
		// Forced, because shadow counts zombies as processes in use; what lives was killed before.
		if err := tool(ctx, "userdel", "--force", user.Name); err != nil {
			if still, lookErr := exists(user); still || lookErr != nil {
				return errors.Join(err, lookErr)
			}
		}
	}
	groups, err := entries("/etc/group")
	if err != nil {
		return err
	}
	for _, fields := range groups {
		if fields[0] == user.Name && number(fields, 2) == user.UID {
			return tool(ctx, "groupdel", user.Name)
		}
	}
	return nil
}

// Tenants lists users that look like a lease's, by name or by number.
func (a Accounts) Tenants(context.Context) ([]agent.User, error) {
	lines, err := entries("/etc/passwd")
	if err != nil {
		return nil, err
	}
	var tenants []agent.User
	for _, fields := range lines {
		uid := number(fields, 2)
		generation, err := strconv.ParseInt(strings.TrimPrefix(fields[0], "gpu"), 10, 64)
		if err == nil && generation > 0 && uid == node.UID(node.Lease{Generation: generation}) {
			tenants = append(tenants, agent.User{Name: fields[0], UID: uid})
		}
	}
	return tenants, nil
}

// exists refuses to touch a user who has the name of the lease's and another number.
func exists(user agent.User) (bool, error) {
	lines, err := entries("/etc/passwd")
	if err != nil {
		return false, err
	}
	for _, fields := range lines {
		if fields[0] != user.Name {
			continue
		}
		if number(fields, 2) != user.UID {
			return false, fmt.Errorf("the user %s has the number %s, not %d of the lease", user.Name, fields[2], user.UID)
		}
		return true, nil
	}
	return false, nil
}

// entries reads a file of colon-separated lines; every line answered has at least three fields.
func entries(path string) ([][]string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the accounts: %w", err)
	}
	var lines [][]string
	for line := range strings.Lines(string(content)) {
		if fields := strings.Split(strings.TrimSpace(line), ":"); len(fields) >= 3 {
			lines = append(lines, fields)
		}
	}
	return lines, nil
}

// number is a numeric field; -1, which nobody has, when it is none.
func number(fields []string, index int) int64 {
	value, err := strconv.ParseInt(fields[index], 10, 64)
	if err != nil {
		return -1
	}
	return value
}

// tool runs one of shadow's programs; its complaint becomes the error.
func tool(ctx context.Context, name string, arguments ...string) error {
	command := exec.CommandContext(ctx, name, arguments...)
	command.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	output, err := command.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(output)))
	}
	return nil
}
