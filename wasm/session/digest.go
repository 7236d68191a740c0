package session

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/cespare/xxhash/v2"
)

// knownFile is what an earlier opening said of a file: if its size and fingerprint are still those, so is its SHA-256.
type knownFile struct {
	Bytes       int64  `json:"bytes"`
	Fingerprint string `json:"fingerprint"` // XXH64, 16 hexadecimal digits
	SHA256      string `json:"sha256"`
}

func (k *knownFile) check() error {
	if k == nil {
		return nil
	}
	for _, f := range []struct {
		name, hex string
		bytes     int
	}{{"fingerprint", k.Fingerprint, 8}, {"sha256", k.SHA256, sha256.Size}} {
		if b, err := hex.DecodeString(f.hex); err != nil || len(b) != f.bytes {
			return invalid("known.%s: %.80q is not %d hexadecimal digits", f.name, f.hex, 2*f.bytes)
		}
	}
	return nil
}

// digest hashes a file while others read it, mostly from front to back: every byte is hashed once, in order, when a read
// first passes it, and those that a read jumps over are fetched for that alone.
type digest struct {
	r     io.ReaderAt
	size  int64
	at    int64          // hashed so far
	quick *xxhash.Digest // of every file
	sha   hash.Hash      // nil: taken from what is known
	known *knownFile
	done  bool // no more is hashed
	buf   []byte
}

func newDigest(r io.ReaderAt, size int64, known *knownFile) *digest {
	d := &digest{r: r, size: size, quick: xxhash.New(), known: known}
	if known == nil || known.Bytes != size {
		d.known, d.sha = nil, sha256.New()
	}
	return d
}

// ReadAt implements io.ReaderAt.
func (d *digest) ReadAt(p []byte, off int64) (int, error) {
	if !d.done && off > d.at {
		if err := d.advance(off, nil); err != nil {
			return 0, err
		}
	}
	n, err := d.r.ReadAt(p, off)
	if end := off + int64(n); !d.done && end > d.at {
		d.write(p[d.at-off : n])
	}
	return n, err
}

func (d *digest) write(b []byte) {
	d.quick.Write(b) // never fails
	if d.sha != nil {
		d.sha.Write(b)
	}
	d.at += int64(len(b))
}

// advance hashes up to an offset.
func (d *digest) advance(to int64, progress func(done, total int64) error) error {
	const chunk = 1 << 20
	for d.at < to {
		if d.buf == nil {
			d.buf = make([]byte, chunk)
		}
		b := d.buf[:min(chunk, to-d.at)]
		n, err := d.r.ReadAt(b, d.at)
		if n < len(b) {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("at byte %d: %w", d.at+int64(n), err)
		}
		d.write(b)
		if progress != nil {
			if err := progress(d.at, d.size); err != nil {
				return err
			}
		}
	}
	return nil
}

// end hashes what is left and returns what is to be known of the file from now on. Where the fingerprint is not the known one,
// the file is read once more.
func (d *digest) end(progress func(done, total int64) error) (*knownFile, error) {
	if err := d.advance(d.size, progress); err != nil {
		return nil, err
	}
	k := &knownFile{Bytes: d.size, Fingerprint: fmt.Sprintf("%016x", d.quick.Sum64())}
	switch {
	case d.known != nil && d.known.Fingerprint == k.Fingerprint:
		k.SHA256 = d.known.SHA256
	case d.known != nil:
		d.known, d.sha, d.at = nil, sha256.New(), 0
		d.quick.Reset()
		return d.end(progress)
	default:
		k.SHA256 = hex.EncodeToString(d.sha.Sum(nil))
	}
	d.done, d.quick, d.sha, d.buf = true, nil, nil, nil
	return k, nil
}

// fileHash is the SHA-256 of a model's files, one after the other, as 64 hex digits.
func fileHash(paths []string, size int64, progress func(done, total int64) error) (string, error) {
	h := sha256.New()
	buf := make([]byte, 1<<20)
	var done int64
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return "", err
		}
		for err == nil {
			var n int
			n, err = f.Read(buf)
			h.Write(buf[:n])
			done += int64(n)
			if err == nil {
				err = progress(done, max(size, done))
			}
		}
		f.Close() // read only
		if !errors.Is(err, io.EOF) {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), progress(size, size)
}
