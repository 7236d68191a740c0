package replay

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"tabtune/internal/atomicfile"
)

// Writer appends to a log. It is not safe for concurrent use.
type Writer struct {
	// FlushEvery is how many records go into one write and one flush to the
	// device; Create and Resume set 1. A crash loses at most the records since
	// the last flush.
	FlushEvery int

	path    string
	f       *os.File
	s       state
	off     int64 // end of what is flushed
	pending []byte
	waiting int
	err     error // sticky: after a failed write the file's end is unknown
}

// Create starts a log. It fails when the file exists: an existing log is
// continued with Resume or removed first.
func Create(path string, c Config) (*Writer, error) {
	h, err := header(&c)
	if err != nil {
		return nil, fmt.Errorf("replay log %s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, fmt.Errorf("replay log: %w", err)
	}
	w := &Writer{FlushEvery: 1, path: path, f: f, pending: h}
	w.s.crc, w.s.rated = binary.LittleEndian.Uint32(h[len(h)-4:]), c.version() >= rated
	if err := w.Flush(); err != nil {
		f.Close()
		os.Remove(path)
		return nil, err
	}
	return w, nil
}

// Resume reads a log, cuts off its torn tail and, when keep is not negative, all
// records but the first keep ones, and returns what is left with a Writer that
// continues there. Log.Cut says how many torn bytes were dropped. A log with
// other damage, or with fewer than keep records, is an error and left as it is.
func Resume(path string, keep int) (*Log, *Writer, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("replay log: %w", err)
	}
	l, w, err := resume(f, path, keep)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return l, w, nil
}

func resume(f *os.File, path string, keep int) (*Log, *Writer, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("replay log: %w", err)
	}
	l := &Log{}
	var ends []int64
	s, err := scan(f, st.Size(), path, l, func(r Record, end int64) error {
		l.Records = append(l.Records, r)
		ends = append(ends, end)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	if keep > len(l.Records) {
		return nil, nil, fmt.Errorf("replay log %s: has %d records, %d are to be kept", path, len(l.Records), keep)
	}
	if keep >= 0 && keep < len(l.Records) {
		// Read again up to there: the state of the chain at an earlier record.
		first := l.Records[0]
		if keep > 0 {
			l.End = ends[keep-1]
		} else {
			l.End = ends[0] - int64(recordLen(&first, s.rated))
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, nil, fmt.Errorf("replay log %s: %w", path, err)
		}
		short := &Log{}
		if s, err = scan(f, l.End, path, short, func(Record, int64) error { return nil }); err != nil {
			return nil, nil, err
		}
		l.Records = l.Records[:keep]
	}
	w := &Writer{FlushEvery: 1, path: path, f: f, s: s, off: l.End}
	if l.End < st.Size() {
		if err := f.Truncate(l.End); err != nil {
			return nil, nil, fmt.Errorf("replay log %s: cutting at byte %d: %w", path, l.End, err)
		}
	}
	if _, err := f.Seek(l.End, io.SeekStart); err != nil {
		return nil, nil, fmt.Errorf("replay log %s: %w", path, err)
	}
	return l, w, nil
}

// recordLen is the size of the first record of a log.
func recordLen(r *Record, rated bool) int {
	s := state{rated: rated}
	return len(s.encode(nil, r))
}

// Append adds a step: one more than the last, and 0 or more for the first. After
// an error of the file system the Writer is done for; Resume starts a new one.
func (w *Writer) Append(r Record) error {
	if w.err != nil {
		return w.err
	}
	if err := r.validate(); err != nil {
		return fmt.Errorf("replay log %s: %w", w.path, err)
	}
	if r.Rate != 0 && !w.s.rated {
		return fmt.Errorf("replay log %s: step %d has a rate, in a log without an optimizer", w.path, r.Step)
	}
	if w.s.started && r.Step != w.s.step+1 {
		return fmt.Errorf("replay log %s: step %d cannot follow step %d", w.path, r.Step, w.s.step)
	}
	w.pending = w.s.encode(w.pending, &r)
	w.waiting++
	if w.waiting >= w.FlushEvery {
		return w.Flush()
	}
	return nil
}

// Flush writes the waiting records and flushes the file to the device.
func (w *Writer) Flush() error {
	if w.err != nil || len(w.pending) == 0 {
		return w.err
	}
	_, err := w.f.Write(w.pending)
	if err == nil {
		if err = w.f.Sync(); err != nil && atomicfile.Unsupported(err) {
			err = nil // the host has nothing to flush
		}
	}
	if err != nil {
		w.err = fmt.Errorf("replay log %s: writing at byte %d: %w", w.path, w.off, err)
		return w.err
	}
	w.off += int64(len(w.pending))
	w.pending, w.waiting = w.pending[:0], 0
	return nil
}

// Size is the length of the log up to the last flush.
func (w *Writer) Size() int64 { return w.off }

// Close flushes and closes the file.
func (w *Writer) Close() error {
	err := w.Flush()
	if cerr := w.f.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("replay log %s: %w", w.path, cerr)
	}
	return err
}
