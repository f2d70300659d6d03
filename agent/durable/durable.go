// Package durable writes files of the agent that a crash must leave whole: its identity, its journal, its fence. It
// imports the standard library only.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace writes a file, readable by its owner alone, so that readers and crashes see the old one or the new one,
// whole, and the new one is on disk when it returns.
func Replace(path string, content []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*") // makes it 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = file.Write(content)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), IgnoreMissing(os.Remove(file.Name())))
	}
	return SyncDirectory(filepath.Dir(path))
}

// SyncDirectory makes a rename or a creation in it durable.
func SyncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	if err := errors.Join(directory.Sync(), directory.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}

// IgnoreMissing is err, or nothing when it says that a file is not there.
func IgnoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
