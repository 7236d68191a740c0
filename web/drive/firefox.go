package drive

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// ErrNoFirefox says that no Firefox was found, and how to get one.
var ErrNoFirefox = errors.New("no Firefox found: apt-get install firefox-esr (or set FIREFOX to its path)")

// Firefox finds the browser: the variable FIREFOX, then the usual names.
func Firefox() (string, error) {
	names := []string{"firefox-esr", "firefox"}
	if own := os.Getenv("FIREFOX"); own != "" {
		names = []string{own}
	}
	for _, n := range names {
		if p, err := exec.LookPath(n); err == nil {
			return p, nil
		}
	}
	return "", ErrNoFirefox
}

// firefox is a connection by WebDriver BiDi, which Firefox speaks itself (W3C, webdriver-bidi): {id, method, params} out; {id, result}, errors
// and events in.
type firefox struct {
	conn    net.Conn
	context string // the tab
	heard   func(string)

	mu      sync.Mutex
	last    int
	waiting map[int]chan bidiAnswer
	ended   error
}

type bidiAnswer struct {
	ID      int             `json:"id"`
	Type    string          `json:"type"` // success, error, event
	Result  json.RawMessage `json:"result"`
	Error   string          `json:"error"`
	Message string          `json:"message"`
	Params  struct {
		Level string `json:"level"`
		Text  string `json:"text"`
	} `json:"params"`
}

// OpenFirefox starts Firefox without a window. ctx bounds its whole life. What concerns Chromium alone (Run, Trace, Screenshot, Tab, Crash and
// CloseAndCheck) is not to be called on it.
func OpenFirefox(ctx context.Context, o Options) (*Browser, error) {
	path, err := Firefox()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "tabtune-firefox")
	if err != nil {
		return nil, err
	}
	b := &Browser{dir: dir}
	prefs := map[string]any{"datareporting.policy.dataSubmissionEnabled": false, "browser.shell.checkDefaultBrowser": false, "app.update.disabledForTesting": true,
		"browser.download.folderList": 2, "browser.download.dir": o.Downloads, "browser.download.alwaysOpenPanel": false, "network.captive-portal-service.enabled": false}
	var user strings.Builder
	for name, v := range prefs {
		value, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&user, "user_pref(%q, %s);\n", name, value)
	}
	if err := os.WriteFile(filepath.Join(dir, "user.js"), []byte(user.String()), 0o644); err != nil {
		b.Close()
		return nil, err
	}
	running, cancel := context.WithCancel(ctx)
	b.ctx = running
	cmd := exec.CommandContext(running, path, "--headless", "--no-remote", "--profile", dir, "--remote-debugging-port", "0", "about:blank")
	said, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		b.Close()
		return nil, fmt.Errorf("starting %s: %w", path, err)
	}
	var fox *firefox
	b.cancel = func() {
		if fox != nil {
			_ = fox.call(running, "browser.close", struct{}{}, nil) // it need not be alive any more
			_ = fox.conn.Close()
		}
		cancel()
		_ = cmd.Wait()
	}
	address, err := listening(running, said)
	if err == nil {
		fox, err = dialFirefox(running, address, b.hear)
	}
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("starting %s: %w", path, err)
	}
	b.other = fox
	return b, nil
}

// listening reads the address out of what Firefox says as it starts, and goes on reading so that it never waits.
func listening(ctx context.Context, said io.Reader) (string, error) {
	const words = "WebDriver BiDi listening on "
	found := make(chan string, 1)
	go func() {
		var last string
		lines := bufio.NewScanner(said)
		for lines.Scan() {
			if _, address, ok := strings.Cut(lines.Text(), words); ok {
				found <- strings.TrimSpace(address)
				_, _ = io.Copy(io.Discard, said)
				return
			}
			last = lines.Text()
		}
		found <- "it ended: " + last
	}()
	select {
	case s := <-found:
		if !strings.HasPrefix(s, "ws://") {
			return "", errors.New(s)
		}
		return s, nil
	case <-time.After(90 * time.Second):
		return "", errors.New("it does not listen")
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func dialFirefox(ctx context.Context, address string, heard func(string)) (*firefox, error) {
	conn, _, _, err := ws.Dial(ctx, address+"/session")
	if err != nil {
		return nil, err
	}
	f := &firefox{conn: conn, heard: heard, waiting: map[int]chan bidiAnswer{}}
	go f.read()
	var tree struct{ Contexts []struct{ Context string } }
	for _, c := range []struct {
		method string
		params any
		out    any
	}{
		{"session.new", map[string]any{"capabilities": map[string]any{}}, nil},
		{"session.subscribe", map[string]any{"events": []string{"log.entryAdded"}}, nil},
		{"browsingContext.getTree", map[string]any{}, &tree},
	} {
		if err := f.call(ctx, c.method, c.params, c.out); err != nil {
			_ = conn.Close()
			return nil, err
		}
	}
	if len(tree.Contexts) == 0 {
		_ = conn.Close()
		return nil, errors.New("it has no tab")
	}
	f.context = tree.Contexts[0].Context
	return f, nil
}

func (f *firefox) read() {
	for {
		text, err := wsutil.ReadServerText(f.conn)
		if err != nil {
			f.mu.Lock()
			f.ended = fmt.Errorf("Firefox ended: %w", err)
			for _, c := range f.waiting {
				close(c)
			}
			f.waiting = nil
			f.mu.Unlock()
			return
		}
		var a bidiAnswer
		if json.Unmarshal(text, &a) != nil {
			continue // an event with other parameters than those of interest
		}
		if a.Type == "event" {
			if a.Params.Level == "error" || a.Params.Level == "warn" {
				f.heard(a.Params.Level + ": " + a.Params.Text)
			}
			continue
		}
		f.mu.Lock()
		if c := f.waiting[a.ID]; c != nil {
			c <- a
			delete(f.waiting, a.ID)
		}
		f.mu.Unlock()
	}
}

// call sends a command and decodes its result into out unless that is nil.
func (f *firefox) call(ctx context.Context, method string, params, out any) error {
	c := make(chan bidiAnswer, 1)
	f.mu.Lock()
	if f.ended != nil {
		defer f.mu.Unlock()
		return f.ended
	}
	f.last++
	text, err := json.Marshal(map[string]any{"id": f.last, "method": method, "params": params})
	if err == nil {
		f.waiting[f.last] = c
		err = wsutil.WriteClientText(f.conn, text)
	}
	f.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	select {
	case a, ok := <-c:
		switch {
		case !ok:
			return fmt.Errorf("%s: %w", method, f.ended)
		case a.Type != "success":
			return fmt.Errorf("%s: %s: %s", method, a.Error, a.Message)
		case out == nil:
			return nil
		}
		return json.Unmarshal(a.Result, out)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", method, ctx.Err())
	}
}

// evaluated is the result of script.evaluate: a remote value, or an exception.
type evaluated struct {
	Type   string
	Result struct {
		Type, SharedID string
		Value          json.RawMessage
	}
	ExceptionDetails struct{ Text string }
}

func (f *firefox) evaluate(ctx context.Context, expression string) (evaluated, error) {
	var r evaluated
	err := f.call(ctx, "script.evaluate", map[string]any{"expression": expression, "target": map[string]string{"context": f.context}, "awaitPromise": true}, &r)
	if err == nil && r.Type == "exception" {
		err = errors.New(r.ExceptionDetails.Text)
	}
	return r, err
}

// eval evaluates an expression and decodes its value, which passes as JSON.
func (f *firefox) eval(ctx context.Context, expression string, out any) error {
	r, err := f.evaluate(ctx, "Promise.resolve("+expression+").then((v) => JSON.stringify(v) ?? \"null\")")
	if err != nil || out == nil {
		return err
	}
	var text string
	if err := json.Unmarshal(r.Result.Value, &text); err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), out)
}

func (f *firefox) navigate(ctx context.Context, address string) error {
	return f.call(ctx, "browsingContext.navigate", map[string]string{"context": f.context, "url": address, "wait": "complete"}, nil)
}

func (f *firefox) pick(ctx context.Context, selector string, files []string) error {
	text, err := json.Marshal(selector)
	if err != nil {
		return err
	}
	r, err := f.evaluate(ctx, "document.querySelector("+string(text)+")")
	if err == nil && r.Result.SharedID == "" {
		err = fmt.Errorf("%s is not there", selector)
	}
	if err != nil {
		return err
	}
	return f.call(ctx, "input.setFiles", map[string]any{"context": f.context, "element": map[string]string{"sharedId": r.Result.SharedID}, "files": files}, nil)
}
