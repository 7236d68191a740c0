package drive

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/chromedp/chromedp"
)

// Memory is how many bytes the browser's processes hold together, files mapped into them left out: the proportional sets of anonymous and shared
// memory that Linux keeps in /proc.
func (b *Browser) Memory() (int64, error) {
	c := chromedp.FromContext(b.ctx)
	if c == nil || c.Browser == nil || c.Browser.Process() == nil {
		return 0, errors.New("no process of Chromium's own to look at")
	}
	children, err := processTree()
	if err != nil {
		return 0, err
	}
	var total int64
	for pids := []int{c.Browser.Process().Pid}; len(pids) > 0; pids = pids[1:] {
		n, err := held(pids[0])
		if err != nil && !errors.Is(err, os.ErrNotExist) { // one may end meanwhile
			return 0, err
		}
		total += n
		pids = append(pids, children[pids[0]]...)
	}
	return total, nil
}

// processTree lists the children of every process.
func processTree() (map[int][]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it ended
		}
		// "pid (name) state parent ...": the name may hold anything.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil || len(fields) < 2 {
			return nil, fmt.Errorf("%s: %q", path, text)
		}
		parent, err := strconv.Atoi(fields[1])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		children[parent] = append(children[parent], pid)
	}
	return children, nil
}

// held reads a process's share of memory that no file backs, in bytes.
func held(pid int) (n int64, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if name != "Pss_Anon" && name != "Pss_Shmem" {
			continue
		}
		kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", f.Name(), err)
		}
		n += kb << 10
	}
	return n, lines.Err()
}
