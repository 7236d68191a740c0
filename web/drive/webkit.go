package drive

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// ErrNoWebKit says that WebKit's browser or the display that it needs was not found, and how to get them.
var ErrNoWebKit = errors.New("no WebKit found: apt-get install libwebkit2gtk-4.1-0 xvfb (or set WEBKIT to the path of its MiniBrowser)")

// WebKit finds WebKitGTK's own small browser: the variable WEBKIT, then where Debian's packages put it. It draws to an X server: Xvfb.
func WebKit() (browser, display string, err error) {
	found := []string{os.Getenv("WEBKIT")}
	if found[0] == "" {
		if found, err = filepath.Glob("/usr/lib/*/webkit2gtk-4.*/MiniBrowser"); err != nil || len(found) == 0 {
			return "", "", ErrNoWebKit
		}
	}
	browser, err = exec.LookPath(found[len(found)-1])
	if err == nil {
		display, err = exec.LookPath("Xvfb")
	}
	if err != nil {
		return "", "", ErrNoWebKit
	}
	return browser, display, nil
}

// webkit is a connection to WebKit's remote inspector. Its commands go to a target, the page's process, wrapped in Target.sendMessageToTarget; a
// page of another origin gets another target.
type webkit struct {
	conn  net.Conn
	in    *bufio.Reader // begins with what came together with the handshake
	heard func(string)

	mu      sync.Mutex
	last    int
	target  string
	waiting map[int]chan inspected
	ended   error
}

// inspected is a message of the inspector, of either layer.
type inspected struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
	Params struct {
		TargetInfo struct {
			TargetID string `json:"targetId"`
			Type     string `json:"type"`
		} `json:"targetInfo"`
		NewTargetID string          `json:"newTargetId"`
		Message     json.RawMessage `json:"message"` // a message of the target, as a string, or of the console
	} `json:"params"`
}

// OpenWebKit starts WebKitGTK's browser with an address, in a display of its own, with what it allows by default: no OPFS and no shared memory.
// Downloads go to a folder that only Options name. ctx bounds its whole life. What concerns Chromium alone (Run, Trace, Screenshot, Tab, Crash
// and CloseAndCheck) is not to be called on it.
func OpenWebKit(ctx context.Context, address string, o Options) (*Browser, error) {
	path, xvfb, err := WebKit()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "tabtune-webkit")
	if err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(ctx)
	b := &Browser{dir: dir, ctx: running}
	var started []*exec.Cmd
	var kit *webkit
	b.cancel = func() {
		if kit != nil {
			_ = kit.conn.Close()
		}
		cancel()
		for _, c := range started {
			_ = c.Wait()
		}
	}
	fail := func(err error) (*Browser, error) {
		b.Close()
		return nil, fmt.Errorf("starting %s: %w", path, err)
	}
	display, server, err := startDisplay(running, xvfb)
	if err != nil {
		return fail(err)
	}
	started = append(started, server)
	inspector, err := freeAddress()
	if err != nil {
		return fail(err)
	}
	config := filepath.Join(dir, ".config")
	if err := os.Mkdir(config, 0o755); err != nil {
		return fail(err)
	}
	if err := os.WriteFile(filepath.Join(config, "user-dirs.dirs"), fmt.Appendf(nil, "XDG_DOWNLOAD_DIR=%q\n", o.Downloads), 0o644); err != nil {
		return fail(err)
	}
	cmd := exec.CommandContext(running, path, address)
	cmd.Env = append(os.Environ(), "DISPLAY="+display, "HOME="+dir, "XDG_RUNTIME_DIR="+dir, "XDG_CONFIG_HOME="+config, "XDG_CACHE_HOME="+dir, "XDG_DATA_HOME="+dir,
		"GDK_BACKEND=x11", "LIBGL_ALWAYS_SOFTWARE=1", "WEBKIT_INSPECTOR_HTTP_SERVER="+inspector,
		"WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS=1") // as Chromium's: a container's root has no namespaces to sandbox with, and the page is ours
	if err := cmd.Start(); err != nil {
		return fail(err)
	}
	started = append(started, cmd)
	if kit, err = dialWebKit(running, inspector, address, b.hear); err != nil {
		return fail(err)
	}
	b.other = kit
	return b, nil
}

// startDisplay starts an X server that nobody sees, under a number that is free.
func startDisplay(ctx context.Context, xvfb string) (string, *exec.Cmd, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return "", nil, err
	}
	defer r.Close()
	cmd := exec.CommandContext(ctx, xvfb, "-displayfd", "3", "-screen", "0", "1200x900x24", "-nolisten", "tcp")
	cmd.ExtraFiles = []*os.File{w}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return "", nil, err
	}
	number, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		return "", nil, fmt.Errorf("%s: no display: %w", xvfb, err)
	}
	return ":" + strings.TrimSpace(number), cmd, nil
}

// freeAddress is one of the loopback that nobody listens at now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// socketPath is where the inspector's list of targets says that a page is.
var socketPath = regexp.MustCompile(`/socket/\d+/\d+/WebPage`)

func dialWebKit(ctx context.Context, inspector, address string, heard func(string)) (*webkit, error) {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	var path string
	for path == "" {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("its inspector lists no page: %w", ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
		res, err := http.Get("http://" + inspector)
		if err != nil {
			continue // it does not listen yet
		}
		list, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
		_ = res.Body.Close()
		if err == nil && strings.Contains(string(list), address) {
			path = socketPath.FindString(string(list))
		}
	}
	conn, early, _, err := ws.Dial(ctx, "ws://"+inspector+path)
	if err != nil {
		return nil, err
	}
	if early == nil {
		early = bufio.NewReader(conn)
	}
	k := &webkit{conn: conn, in: early, heard: heard, waiting: map[int]chan inspected{}}
	go k.read()
	for {
		k.mu.Lock()
		ready, ended := k.target != "", k.ended
		k.mu.Unlock()
		if ended != nil {
			return nil, ended
		}
		if ready {
			return k, k.call(ctx, "Console.enable", struct{}{}, nil)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (k *webkit) read() {
	for {
		text, err := wsutil.ReadServerText(struct {
			io.Reader
			io.Writer
		}{k.in, k.conn})
		k.mu.Lock()
		if err != nil {
			k.ended = fmt.Errorf("WebKit ended: %w", err)
			for _, c := range k.waiting {
				close(c)
			}
			k.waiting = nil
			k.mu.Unlock()
			return
		}
		var outer, m inspected
		if json.Unmarshal(text, &outer) == nil {
			switch outer.Method {
			case "Target.targetCreated":
				if outer.Params.TargetInfo.Type == "page" && k.target == "" {
					k.target = outer.Params.TargetInfo.TargetID
				}
			case "Target.didCommitProvisionalTarget":
				k.target = outer.Params.NewTargetID
			case "Target.dispatchMessageFromTarget":
				var inner string
				if json.Unmarshal(outer.Params.Message, &inner) == nil && json.Unmarshal([]byte(inner), &m) == nil {
					k.take(m)
				}
			}
		}
		k.mu.Unlock()
	}
}

// take gives a message of the page's to who waits for it.
func (k *webkit) take(m inspected) {
	if m.Method == "Console.messageAdded" {
		var said struct{ Level, Text string }
		if json.Unmarshal(m.Params.Message, &said) == nil && (said.Level == "error" || said.Level == "warning") {
			k.heard(said.Level + ": " + said.Text)
		}
		return
	}
	if c := k.waiting[m.ID]; c != nil {
		c <- m
		delete(k.waiting, m.ID)
	}
}

// call sends a command to the page and decodes its result into out unless that is nil.
func (k *webkit) call(ctx context.Context, method string, params, out any) error {
	c := make(chan inspected, 1)
	k.mu.Lock()
	if k.ended != nil {
		defer k.mu.Unlock()
		return k.ended
	}
	k.last++
	inner, err := json.Marshal(map[string]any{"id": k.last, "method": method, "params": params})
	var outer []byte
	if err == nil {
		outer, err = json.Marshal(map[string]any{"id": k.last, "method": "Target.sendMessageToTarget", "params": map[string]string{"targetId": k.target, "message": string(inner)}})
	}
	if err == nil {
		k.waiting[k.last] = c
		err = wsutil.WriteClientText(k.conn, outer)
	}
	k.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	select {
	case m, ok := <-c:
		switch {
		case !ok:
			return fmt.Errorf("%s: %w", method, k.ended)
		case m.Error != nil:
			return fmt.Errorf("%s: %s", method, m.Error.Message)
		case out == nil:
			return nil
		}
		return json.Unmarshal(m.Result, out)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", method, ctx.Err())
	}
}

// eval evaluates an expression and decodes its value, which passes as JSON.
func (k *webkit) eval(ctx context.Context, expression string, out any) error {
	type remote struct {
		Result struct {
			ObjectID    string          `json:"objectId"`
			Value       json.RawMessage `json:"value"`
			Description string          `json:"description"`
		} `json:"result"`
		WasThrown bool `json:"wasThrown"`
	}
	var promise, r remote
	err := k.call(ctx, "Runtime.evaluate", map[string]any{"expression": "Promise.resolve(" + expression + ").then((v) => JSON.stringify(v) ?? \"null\")"}, &promise)
	if err == nil && promise.WasThrown {
		err = errors.New(promise.Result.Description)
	}
	if err == nil {
		err = k.call(ctx, "Runtime.awaitPromise", map[string]any{"promiseObjectId": promise.Result.ObjectID, "returnByValue": true}, &r)
	}
	if err == nil && r.WasThrown {
		err = errors.New(r.Result.Description)
	}
	if err != nil || out == nil {
		return err
	}
	var text string
	if err := json.Unmarshal(r.Result.Value, &text); err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), out)
}

func (k *webkit) navigate(ctx context.Context, address string) error {
	text, err := json.Marshal(address)
	if err != nil {
		return err
	}
	return k.call(ctx, "Runtime.evaluate", map[string]any{"expression": "location.assign(" + string(text) + ")"}, nil)
}

// piece is how much of a file goes into one message: the inspector takes none above 128 KB.
const piece = 48 << 10

// pick gives a file input files, as dropping them on it would: WebKit's inspector cannot choose any.
func (k *webkit) pick(ctx context.Context, selector string, files []string) error {
	if err := k.eval(ctx, "void (globalThis.pickedFiles = [])", nil); err != nil {
		return err
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := json.Marshal(filepath.Base(path))
		if err != nil {
			return err
		}
		if err := k.eval(ctx, fmt.Sprintf("void pickedFiles.push({ name: %s, pieces: [] })", name), nil); err != nil {
			return err
		}
		for part := range slices.Chunk(data, piece) {
			text := base64.StdEncoding.EncodeToString(part)
			if err := k.eval(ctx, fmt.Sprintf(`void pickedFiles.at(-1).pieces.push(Uint8Array.from(atob("%s"), (c) => c.charCodeAt(0)))`, text), nil); err != nil {
				return err
			}
		}
	}
	at, err := json.Marshal(selector)
	if err != nil {
		return err
	}
	return k.eval(ctx, fmt.Sprintf(`((input) => {
	  const moved = new DataTransfer();
	  for (const { name, pieces } of pickedFiles) moved.items.add(new File(pieces, name));
	  delete globalThis.pickedFiles;
	  input.files = moved.files;
	  input.dispatchEvent(new Event("change", { bubbles: true }));
	})(document.querySelector(%s))`, at), nil)
}
