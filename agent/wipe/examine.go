package wipe

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/gpuaas/gpuaas/agent"
)

// Examiner looks for remains of a user. It calls nothing of the removal: a mistake there must not hide itself here.
type Examiner struct {
	Roots    []string
	HomeRoot string
	// GPUProcesses lists the process ids that hold a GPU.
	GPUProcesses func() (map[int]string, error)
}

// maxRemains bounds what a finding names; one is enough to fail it.
const maxRemains = 10

// Examine looks at processes, accounts, files, IPC, schedules and GPU memory. What cannot be looked at counts as a
// remain: an absence that was not seen is not proven.
func (e Examiner) Examine(ctx context.Context, user agent.User) ([]agent.Finding, error) {
	findings := []agent.Finding{
		{Check: "no_process", Remains: processRemains(user)},
		{Check: "no_user", Remains: accountRemains(user, "/etc/passwd", "/etc/shadow", "/etc/subuid")},
		{Check: "no_group", Remains: accountRemains(user, "/etc/group", "/etc/gshadow", "/etc/subgid")},
		{Check: "no_file", Remains: e.fileRemains(ctx, user)},
		{Check: "no_ipc", Remains: ipcRemains(user)},
		{Check: "no_schedule", Remains: scheduleRemains(user)},
		{Check: "gpu_memory_free", Remains: e.gpuRemains(user)},
	}
	return findings, ctx.Err()
}

var uidLine = regexp.MustCompile(`(?m)^Uid:\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)`)

// owns says whether the process with this id has the uid in any role; gone that there is no such process.
func owns(pid string, uid int64) (owned, gone bool) {
	status, err := os.ReadFile(filepath.Join("/proc", pid, "status"))
	if err != nil {
		return false, true
	}
	if bytes.Contains(status, []byte("State:\tZ")) {
		return false, true
	}
	for _, number := range uidLine.FindStringSubmatch(string(status)) {
		if number == strconv.FormatInt(uid, 10) {
			return true, false
		}
	}
	return false, false
}

func processRemains(user agent.User) []string {
	paths, err := filepath.Glob("/proc/[0-9]*")
	if err != nil || len(paths) == 0 {
		return []string{"the processes cannot be listed"}
	}
	var remains []string
	for _, path := range paths {
		if owned, _ := owns(filepath.Base(path), user.UID); owned && len(remains) < maxRemains {
			remains = append(remains, "process "+filepath.Base(path))
		}
	}
	return remains
}

// accountRemains finds the user's name, or number where the third field is one, in any line of the files.
func accountRemains(user agent.User, paths ...string) []string {
	var remains []string
	for _, path := range paths {
		file, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			remains = append(remains, err.Error())
			continue
		}
		numbered := path == "/etc/passwd" || path == "/etc/group"
		lines := bufio.NewScanner(file)
		for lines.Scan() {
			fields := strings.Split(lines.Text(), ":")
			names := strings.FieldsFunc(lines.Text(), func(r rune) bool { return r == ':' || r == ',' })
			for index, name := range names {
				if name == user.Name && (index == 0 || path == "/etc/group" || path == "/etc/gshadow") {
					remains = append(remains, path+" names "+user.Name)
					break
				}
			}
			if numbered && len(fields) > 2 && fields[2] == strconv.FormatInt(user.UID, 10) && fields[0] != user.Name {
				remains = append(remains, path+" gives the number to "+fields[0])
			}
		}
		if err := errors.Join(lines.Err(), file.Close()); err != nil {
			remains = append(remains, err.Error())
		}
	}
	return remains
}

// fileRemains walks the roots by path; nobody of the lease runs any more who could change them underway. It stays on
// the file system of each root, and a mount point of the user's is itself a remain.
func (e Examiner) fileRemains(ctx context.Context, user agent.User) []string {
	var remains []string
	note := func(what string) error {
		if remains = append(remains, what); len(remains) >= maxRemains {
			return fs.SkipAll
		}
		return nil
	}
	home := filepath.Join(e.HomeRoot, user.Name)
	if _, err := os.Lstat(home); !errors.Is(err, fs.ErrNotExist) {
		_ = note(home)
	}
	for _, root := range e.Roots {
		top, err := os.Stat(root)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			_ = note(err.Error())
			continue
		}
		device := top.Sys().(*syscall.Stat_t).Dev
		// The trailing separator makes a root that is a symbolic link, as /var/mail often is, the directory it leads to.
		err = filepath.WalkDir(root+"/", func(path string, entry fs.DirEntry, err error) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return note(err.Error())
			}
			info, err := entry.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return note(err.Error())
			}
			stat := info.Sys().(*syscall.Stat_t)
			if int64(stat.Uid) == user.UID || int64(stat.Gid) == user.UID {
				if err := note(path); err != nil {
					return err
				}
			}
			if entry.IsDir() && stat.Dev != device {
				return fs.SkipDir
			}
			return nil
		})
		if err != nil {
			_ = note(err.Error())
		}
	}
	return remains
}

func ipcRemains(user agent.User) []string {
	var remains []string
	want := strconv.FormatInt(user.UID, 10)
	for _, table := range []string{"shm", "msg", "sem"} {
		content, err := os.ReadFile("/proc/sysvipc/" + table)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			remains = append(remains, err.Error())
			continue
		}
		rows := strings.Split(strings.TrimSpace(string(content)), "\n")
		header := strings.Fields(rows[0])
		for _, row := range rows[1:] {
			for index, field := range strings.Fields(row) {
				if index < len(header) && strings.HasSuffix(header[index], "uid") && field == want {
					remains = append(remains, table+" "+strings.TrimSpace(row))
					break
				}
			}
		}
	}
	return remains
}

func scheduleRemains(user agent.User) []string {
	var remains []string
	for _, directory := range []string{"/var/spool/cron/crontabs", "/var/spool/cron", "/var/lib/systemd/linger"} {
		names, err := os.ReadDir(directory)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			remains = append(remains, err.Error())
		}
		for _, name := range names {
			if name.Name() == user.Name {
				remains = append(remains, filepath.Join(directory, user.Name))
			}
		}
	}
	return remains
}

// gpuRemains finds processes on the GPUs that are the user's, or that nobody can account for any more.
func (e Examiner) gpuRemains(user agent.User) []string {
	holders, err := e.GPUProcesses()
	if err != nil {
		return []string{err.Error()}
	}
	var remains []string
	for pid, where := range holders {
		if owned, gone := owns(strconv.Itoa(pid), user.UID); owned || gone {
			remains = append(remains, fmt.Sprintf("process %d on %s", pid, where))
		}
	}
	return remains
}
