package redisserver

import (
	"runtime"
	"syscall"
)

// ownSession keeps a terminal's signals away from the server; when its owner is killed, the kernel ends it.
func ownSession() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
}

func pinThread() (unpin func()) {
	runtime.LockOSThread()
	return runtime.UnlockOSThread
}
