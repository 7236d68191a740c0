package ui

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"unicode"
)

// A run is shared as its replay log in the fragment of the page's address, which browsers do not send to any server: #replay= and the log,
// deflated and in base64url. Whoever opens the link has the log checked here and again, record by record, by the module (lora/replay).
const (
	shareKey    = "replay="
	maxShared   = 256 << 10 // bytes of a log
	maxFragment = 64_000    // characters: less than browsers, mail and chat programs cut links at
)

// Shared is a log that came with a link.
type Shared struct {
	Log                 []byte
	Model               string // the base model's name as the sender has it
	ModelSHA256         string
	Steps, Rank, Layers int
}

// Text says what it is.
func (s *Shared) Text() string {
	return fmt.Sprintf("This link carries a run: %d steps, rank %d, %d layers of %s. It holds seeds and coefficients, from which the adapter is computed again here; it needs the same model file.",
		s.Steps, s.Rank, s.Layers, s.Model)
}

// ShareLink makes a link of a log. page is the address of the page, without a fragment.
func ShareLink(page string, log []byte) (string, error) {
	s, err := readHeader(log)
	if err != nil {
		return "", err
	}
	if s.head {
		return "", errors.New("This run has a label head, which its log does not hold. Save the adapter instead")
	}
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		return "", err
	}
	if _, err := w.Write(log); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	link := shareKey + base64.RawURLEncoding.EncodeToString(b.Bytes())
	if len(log) > maxShared || len(link) > maxFragment {
		return "", fmt.Errorf("This run's log has %s, too much for a link. Save the replay log as a file instead", Bytes(int64(len(log))))
	}
	return page + "#" + link, nil
}

// OpenLink reads what the fragment of an address carries: nil if that is no shared run. Nothing in it is trusted.
func OpenLink(fragment string) (*Shared, error) {
	text, ok := strings.CutPrefix(strings.TrimPrefix(fragment, "#"), shareKey)
	if !ok {
		return nil, nil
	}
	if len(text) > maxFragment {
		return nil, fmt.Errorf("the link has %d characters, at most %d are read", len(text), maxFragment)
	}
	packed, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("the link is cut short or changed: %w", err)
	}
	log, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), maxShared+1))
	if err != nil {
		return nil, fmt.Errorf("the link is cut short or changed: %w", err)
	}
	if len(log) > maxShared {
		return nil, fmt.Errorf("the link holds more than %s", Bytes(maxShared))
	}
	h, err := readHeader(log)
	if err != nil {
		return nil, fmt.Errorf("the link holds no run: %w", err)
	}
	h.Log = log
	return &h.Shared, nil
}

type logHeader struct {
	Shared
	head bool
}

// readHeader reads the first part of a replay log: magic, version, length, JSON, CRC-32C of all that.
func readHeader(log []byte) (logHeader, error) {
	const fixed = 16
	if len(log) < fixed+4 || string(log[:8]) != "TTREPLAY" {
		return logHeader{}, errors.New("its first bytes are not a replay log's")
	}
	if v := binary.LittleEndian.Uint32(log[8:]); v < 1 || v > 2 {
		return logHeader{}, fmt.Errorf("its replay log has version %d, this page reads 1 and 2", v)
	}
	n := binary.LittleEndian.Uint32(log[12:])
	if uint64(n) > uint64(len(log)-fixed-4) {
		return logHeader{}, fmt.Errorf("the header of its replay log has %d bytes, there are %d", n, len(log)-fixed-4)
	}
	end := fixed + int(n)
	if crc32.Checksum(log[:end], crc32.MakeTable(crc32.Castagnoli)) != binary.LittleEndian.Uint32(log[end:]) {
		return logHeader{}, errors.New("the checksum of its replay log's header is another one")
	}
	var c struct {
		Model       string          `json:"model"`
		ModelSHA256 string          `json:"modelSha256"`
		Steps       int             `json:"steps"`
		Rank        int             `json:"rank"`
		Layers      []int           `json:"layers"`
		Modules     []string        `json:"modules"`
		Extra       json.RawMessage `json:"extra"` // anything, where another program wrote the log
	}
	if err := json.Unmarshal(log[fixed:end], &c); err != nil {
		return logHeader{}, fmt.Errorf("the header of its replay log: %w", err)
	}
	var extra struct {
		Head bool `json:"head"`
	}
	_ = json.Unmarshal(c.Extra, &extra)
	return logHeader{Shared{Model: plain(c.Model, 80), ModelSHA256: c.ModelSHA256, Steps: c.Steps, Rank: c.Rank, Layers: len(c.Layers)}, extra.Head || len(c.Modules) == 0}, nil
}

// plain makes a text from outside fit to stand in a sentence: at most n characters, none that is not seen.
func plain(s string, n int) string {
	r := []rune(strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "")))
	return string(r[:min(n, len(r))])
}
