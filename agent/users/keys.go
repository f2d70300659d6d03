package users

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/gpuaas/gpuaas/agent"
)

const (
	sshDirectory = ".ssh"
	keysFile     = ".ssh/authorized_keys"
	newKeysFile  = ".ssh/.authorized_keys.new"
)

// Set replaces authorized_keys whole. Everything is done inside the home through a handle on it: the tenant may put
// symbolic links wherever they like, none leads root out of there.
func (a Accounts) Set(_ context.Context, user agent.User, lines []string) error {
	home, err := os.OpenRoot(filepath.Join(a.HomeRoot, user.Name))
	if errors.Is(err, fs.ErrNotExist) && len(lines) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open the home of %s: %w", user.Name, err)
	}
	defer func() { _ = home.Close() }() // only a handle
	if len(lines) == 0 {
		// The whole directory goes: sshd reads authorized_keys2 too.
		if err := home.RemoveAll(sshDirectory); err != nil {
			return fmt.Errorf("remove the keys of %s: %w", user.Name, err)
		}
		return nil
	}
	if err := makeKeyDirectory(home, user); err != nil {
		return err
	}
	if err := home.RemoveAll(newKeysFile); err != nil {
		return fmt.Errorf("clear the way for the keys of %s: %w", user.Name, err)
	}
	file, err := home.OpenFile(newKeysFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, privateFile)
	if err != nil {
		return fmt.Errorf("write the keys of %s: %w", user.Name, err)
	}
	_, err = file.WriteString(strings.Join(lines, "\n") + "\n")
	err = errors.Join(err, file.Chown(int(user.UID), int(user.UID)), file.Chmod(privateFile), file.Sync(), file.Close())
	if err == nil {
		err = home.Rename(newKeysFile, keysFile)
	}
	if err != nil {
		return fmt.Errorf("write the keys of %s: %w", user.Name, err)
	}
	return nil
}

// makeKeyDirectory has .ssh be a directory of the user's alone; whatever else has the name is removed.
func makeKeyDirectory(home *os.Root, user agent.User) error {
	info, err := home.Lstat(sshDirectory)
	if err == nil && !info.IsDir() {
		if err := home.RemoveAll(sshDirectory); err != nil {
			return fmt.Errorf("clear the way for the keys of %s: %w", user.Name, err)
		}
	}
	if err := home.Mkdir(sshDirectory, privateDirectory); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the key directory of %s: %w", user.Name, err)
	}
	directory, err := home.Open(sshDirectory)
	if err != nil {
		return fmt.Errorf("open the key directory of %s: %w", user.Name, err)
	}
	if err := errors.Join(directory.Chown(int(user.UID), int(user.UID)), directory.Chmod(privateDirectory), directory.Close()); err != nil {
		return fmt.Errorf("give %s their key directory: %w", user.Name, err)
	}
	return nil
}

func ownerOf(info fs.FileInfo) (int64, bool) {
	stat, known := info.Sys().(*syscall.Stat_t)
	if !known {
		return 0, false
	}
	return int64(stat.Uid), true
}
