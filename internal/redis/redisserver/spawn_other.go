//go:build unix && !linux

package redisserver

import "syscall"

// ownSession keeps a terminal's signals away from the server. There is no parent-death signal here.
func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

func pinThread() (unpin func()) { return func() {} }
