//go:build unix && !linux

package postgres

import "syscall"

// ownSession gives the postmaster its own session and user. There is no parent-death signal here: after a
// kill -9 of its owner the next start stops it.
func ownSession(a account) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Credential: a.credential()}
}

func pinThread() (unpin func()) { return func() {} }
