package postgres

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the OS user that runs the server: ourselves, or another one when we are root.
type account struct {
	name     string
	uid, gid int
	switched bool
}

func (a account) credential() *syscall.Credential {
	if !a.switched {
		return nil
	}
	return &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)} //nolint:gosec // ids come from the user database, never negative
}

// chooseAccount picks who runs the server. An existing cluster belongs to whoever made it; otherwise we run it
// ourselves, and as root as the first of postgres and nobody that can run the binaries.
func chooseAccount(cluster, binDir string) (account, error) {
	self := account{name: "ourselves", uid: os.Geteuid(), gid: os.Getegid()}
	owner, exists := ownerOf(cluster)
	switch {
	case self.uid != 0 && exists && owner.uid != self.uid:
		return account{}, fmt.Errorf("the cluster %s belongs to another user (uid %d): run as that user or as root, or choose another data directory", cluster, owner.uid)
	case self.uid != 0:
		return self, nil
	case exists && owner.uid != 0:
		owner.switched = true
		return owner, canRun(owner, binDir, "/")
	}
	var refusals []error
	for _, name := range []string{"postgres", "nobody"} {
		a, err := lookUp(name)
		if err == nil {
			err = canRun(a, binDir, "/")
		}
		if err == nil {
			return a, nil
		}
		refusals = append(refusals, fmt.Errorf("%s: %w", name, err))
	}
	return account{}, fmt.Errorf("PostgreSQL refuses to run as root and no other user can run %s: %w", binDir, errors.Join(refusals...))
}

func lookUp(name string) (account, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return account{}, err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return account{}, err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return account{}, err
	}
	return account{name: name, uid: uid, gid: gid, switched: true}, nil
}

func ownerOf(dir string) (account, bool) {
	if dir == "" {
		return account{}, false
	}
	info, err := os.Stat(dir)
	if err != nil {
		return account{}, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return account{}, false
	}
	return account{name: "uid " + strconv.Itoa(int(st.Uid)), uid: int(st.Uid), gid: int(st.Gid)}, true
}

// canRun starts the server binary as this user, inside dir: the only sure answer to whether the user may enter
// the directory and run the file, whatever modes, lists and mounts say.
func canRun(a account, binDir, dir string) error {
	cmd := exec.Command(filepath.Join(binDir, "postgres"), "--version")
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.credential()}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("cannot run postgres in %s: %w", dir, err)
	}
	return nil
}
