package wipe

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/gpuaas/gpuaas/agent"
)

// Scrubber removes files and inter-process communication of a user.
type Scrubber struct {
	// Roots are the directories on local file systems that a tenant can write to. One that does not exist is passed over.
	Roots []string
	// HomeRoot is where the home lies; it goes whoever owns it.
	HomeRoot string
}

// maxDepth bounds the directories held open; a tree of the user's that is deeper is moved up and removed from there.
const maxDepth = 128

// Remove walks by directory handles alone and follows no symbolic link, so that no name a tenant chose leads anywhere
// else. A directory of the user's goes with all that is in it, whoever owns that. It crosses into no other file system,
// except that a mount of the user's own in memory or of FUSE is detached.
func (s Scrubber) Remove(ctx context.Context, user agent.User) (int64, error) {
	w := &walk{ctx: ctx, uid: uint32(user.UID)}
	var trouble []error
	if home, err := unix.Open(s.HomeRoot, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
		trouble = append(trouble, w.named(home, user.Name), unix.Close(home))
	}
	for _, root := range s.Roots {
		directory, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			trouble = append(trouble, fmt.Errorf("open %s: %w", root, err))
			continue
		}
		var stat unix.Stat_t
		if err := unix.Fstat(directory, &stat); err != nil {
			trouble = append(trouble, fmt.Errorf("look at %s: %w", root, err), unix.Close(directory))
			continue
		}
		w.device, w.tree = stat.Dev, -1
		trouble = append(trouble, w.directory(directory, root, 0), unix.Close(directory))
	}
	objects, err := removeIPC(user.UID)
	return w.removed + objects, errors.Join(append(trouble, err)...)
}

type walk struct {
	ctx     context.Context //nolint:containedctx // a walk is one call
	uid     uint32
	device  uint64
	removed int64
	// tree is the handle of the directory whose whole content is going, or -1 outside one; moved numbers what is moved
	// up to it.
	tree  int
	moved int
	// all says that ownership does not matter.
	all bool
}

// named removes one entry of a directory whoever owns it.
func (w *walk) named(parent int, name string) error {
	var stat unix.Stat_t
	err := unix.Fstatat(parent, name, &stat, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", name, err)
	}
	w.device, w.tree, w.all = stat.Dev, -1, true
	defer func() { w.all = false }()
	return w.entry(parent, name, name, 0)
}

// directory handles every entry of an open directory.
func (w *walk) directory(handle int, path string, depth int) error {
	names, err := list(handle)
	if err != nil {
		return fmt.Errorf("list %s: %w", path, err)
	}
	var trouble []error
	for _, name := range names {
		if w.ctx.Err() != nil {
			return errors.Join(append(trouble, w.ctx.Err())...)
		}
		if err := w.entry(handle, name, filepath.Join(path, name), depth); err != nil {
			trouble = append(trouble, err)
		}
	}
	return errors.Join(trouble...)
}

func (w *walk) entry(parent int, name, path string, depth int) error {
	var stat unix.Stat_t
	err := unix.Fstatat(parent, name, &stat, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOTCONN) {
		// A FUSE mount whose server was killed cannot even be looked at.
		if err := detach(parent, name); err != nil {
			return fmt.Errorf("detach %s: %w", path, err)
		}
		err = unix.Fstatat(parent, name, &stat, unix.AT_SYMLINK_NOFOLLOW)
	}
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	mine := stat.Uid == w.uid || w.all || w.tree >= 0
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		if !mine {
			return nil
		}
		return w.unlink(parent, name, path, 0)
	}
	if stat.Dev != w.device {
		return w.mount(parent, name, path, mine)
	}
	if mine && depth > maxDepth {
		return w.moveUp(parent, name, path)
	}
	if depth > maxDepth {
		return fmt.Errorf("%s is too deep to look into", path)
	}
	return w.descend(parent, name, path, depth, mine)
}

func (w *walk) descend(parent int, name, path string, depth int, mine bool) error {
	handle, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	outermost := mine && w.tree < 0
	if outermost {
		w.tree = handle
	}
	err = w.directory(handle, path, depth+1)
	if outermost {
		err = errors.Join(err, w.drain(handle, path, depth))
		w.tree = -1
	}
	if err = errors.Join(err, unix.Close(handle)); err != nil || !mine {
		return err
	}
	return w.unlink(parent, name, path, unix.AT_REMOVEDIR)
}

// drain removes what was moved up into a tree while it was walked, which may move up more.
func (w *walk) drain(handle int, path string, depth int) error {
	for done := 0; done < w.moved; {
		done = w.moved
		if err := w.directory(handle, path, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// moveUp brings a directory that lies too deep to the top of the tree that is going.
func (w *walk) moveUp(parent int, name, path string) error {
	w.moved++
	if err := unix.Renameat(parent, name, w.tree, ".gpuaas-scrub-"+strconv.Itoa(w.moved)); err != nil {
		return fmt.Errorf("move %s up: %w", path, err)
	}
	return nil
}

// mount passes over another file system, unless it is the user's: then it goes when it is in memory or FUSE, and is
// trouble when it is a disk.
func (w *walk) mount(parent int, name, path string, mine bool) error {
	if !mine {
		return nil
	}
	handle, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the mount %s: %w", path, err)
	}
	var system unix.Statfs_t
	if err := errors.Join(unix.Fstatfs(handle, &system), unix.Close(handle)); err != nil {
		return fmt.Errorf("look at the mount %s: %w", path, err)
	}
	if system.Type != unix.TMPFS_MAGIC && system.Type != unix.FUSE_SUPER_MAGIC {
		return fmt.Errorf("%s is a file system of its own and is not scrubbed", path)
	}
	if err := detach(parent, name); err != nil {
		return fmt.Errorf("detach %s: %w", path, err)
	}
	return w.unlink(parent, name, path, unix.AT_REMOVEDIR)
}

func detach(parent int, name string) error {
	return unix.Unmount(fmt.Sprintf("/proc/self/fd/%d/%s", parent, name), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
}

func (w *walk) unlink(parent int, name, path string, flags int) error {
	err := unix.Unlinkat(parent, name, flags)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	w.removed++
	return nil
}

// list reads the names in an open directory from its beginning.
func list(handle int) ([]string, error) {
	if _, err := unix.Seek(handle, 0, 0); err != nil {
		return nil, err
	}
	var names []string
	buffer := make([]byte, 64<<10)
	for {
		n, err := unix.ReadDirent(handle, buffer)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return names, nil
		}
		_, _, names = unix.ParseDirent(buffer[:n], -1, names)
	}
}
