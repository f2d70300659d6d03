package postgres

import (
	"runtime"
	"syscall"
)

// ownSession gives the postmaster its own session and user. When its owner is killed, the kernel sends it the
// fast-shutdown signal, so that a kill -9 of the development stack leaves no server running.
func ownSession(a account) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Credential: a.credential(), Pdeathsig: syscall.SIGINT}
}

func pinThread() (unpin func()) {
	runtime.LockOSThread()
	return runtime.UnlockOSThread
}
