// Package atomicfile replaces files so that a reader, or a crash, sees the old
// contents or the new ones, never a part: the new contents go to a file beside
// the old one, are flushed, and renamed over it.
//
// Some WASI hosts (a browser's file shim over OPFS) have no rename. There the
// new file is complete and flushed before the old one is touched; then the
// target is rewritten in place, flushed, and the new file removed. A crash in
// between leaves a complete "NAME.new" beside the target, which Recover puts in
// place.
package atomicfile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Suffix is appended to a file's name while its new contents are written.
const Suffix = ".new"

// rename is a variable so that tests can take it away.
var rename = os.Rename

// Write replaces path by what write produces (through a buffer). When write or
// any step before the replacement fails, the old file is as it was.
func Write(path string, write func(io.Writer) error) (err error) {
	tmp := path + Suffix
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	bw := bufio.NewWriterSize(f, 1<<16)
	err = write(bw)
	if err == nil {
		err = bw.Flush()
	}
	if err == nil {
		err = sync(f)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(tmp)
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return replace(tmp, path)
}

// replace moves tmp over path, by renaming where the system can.
func replace(tmp, path string) error {
	err := rename(tmp, path)
	if err == nil {
		// The new name is on disk once the folder is; not every system can say so.
		if d, derr := os.Open(filepath.Dir(path)); derr == nil {
			d.Sync()
			d.Close()
		}
		return nil
	}
	if !Unsupported(err) {
		return fmt.Errorf("replacing %s: %w", path, err)
	}
	if err := copyOver(tmp, path); err != nil {
		return fmt.Errorf("replacing %s: %w", path, err) // tmp stays: it is complete
	}
	os.Remove(tmp)
	return nil
}

// Unsupported says whether err means that the host lacks the operation, as
// opposed to having refused it this time. (Go's wasip1 does not count ENOTSUP,
// which browser shims answer, as errors.ErrUnsupported.)
func Unsupported(err error) bool {
	return errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.ENOTSUP) || errors.Is(err, errors.ErrUnsupported)
}

func copyOver(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = sync(out)
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	return err
}

// sync flushes to the device. A host without fsync has nothing to flush.
func sync(f *os.File) error {
	if err := f.Sync(); err != nil && !Unsupported(err) {
		return err
	}
	return nil
}

// Recover finishes a replacement that a crash cut short on a system without
// rename. valid decides whether the left-over file is complete (it may be torn,
// if the crash came earlier); an invalid one is removed. Call it before reading
// path. It does nothing when there is no left-over.
func Recover(path string, valid func(path string) error) error {
	tmp := path + Suffix
	if _, err := os.Stat(tmp); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("recovering %s: %w", path, err)
	}
	if valid(tmp) != nil {
		os.Remove(tmp)
		return nil
	}
	return replace(tmp, path)
}
