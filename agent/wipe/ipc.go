package wipe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// removeIPC removes System V segments, queues and semaphores that the user made or owns. POSIX ones are files below
// /dev/shm and /dev/mqueue.
func removeIPC(uid int64) (int64, error) {
	kinds := []struct {
		table, column string
		remove        func(id int) error
	}{
		{"shm", "shmid", func(id int) error { return control(unix.SYS_SHMCTL, id, unix.IPC_RMID, 0) }},
		{"msg", "msqid", func(id int) error { return control(unix.SYS_MSGCTL, id, unix.IPC_RMID, 0) }},
		{"sem", "semid", func(id int) error { return control(unix.SYS_SEMCTL, id, 0, unix.IPC_RMID) }},
	}
	var removed int64
	var trouble []error
	for _, kind := range kinds {
		ids, err := ipcOf(kind.table, kind.column, uid)
		trouble = append(trouble, err)
		for _, id := range ids {
			if err := kind.remove(id); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EIDRM) {
				trouble = append(trouble, fmt.Errorf("remove the %s object %d: %w", kind.table, id, err))
				continue
			}
			removed++
		}
	}
	return removed, errors.Join(trouble...)
}

func control(call uintptr, id, second, third int) error {
	if _, _, code := unix.Syscall6(call, uintptr(id), uintptr(second), uintptr(third), 0, 0, 0); code != 0 {
		return code
	}
	return nil
}

// ipcOf reads the kernel's table; its header names the columns.
func ipcOf(table, column string, uid int64) ([]int, error) {
	content, err := os.ReadFile("/proc/sysvipc/" + table)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a kernel without it has none
	}
	if err != nil {
		return nil, fmt.Errorf("list the %s objects: %w", table, err)
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	columns := map[string]int{}
	for index, name := range strings.Fields(lines[0]) {
		columns[name] = index
	}
	for _, name := range []string{column, "uid", "cuid"} {
		if _, known := columns[name]; !known {
			return nil, fmt.Errorf("the kernel's list of %s objects has no column %s", table, name)
		}
	}
	want := strconv.FormatInt(uid, 10)
	var ids []int
	for _, line := range lines[1:] {
		fields := strings.Fields(line)
		if len(fields) < len(columns) {
			continue
		}
		if fields[columns["uid"]] == want || fields[columns["cuid"]] == want {
			id, err := strconv.Atoi(fields[columns[column]])
			if err != nil {
				return nil, fmt.Errorf("read the list of %s objects: %w", table, err)
			}
			ids = append(ids, id)
		}
	}
	return ids, nil
}
