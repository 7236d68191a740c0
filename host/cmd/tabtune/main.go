// Command tabtune fine-tunes, evaluates and runs language models with tabtune.wasm, the module that the page loads, on wazero.
//
// It holds no logic of its own: flags become parameters of the module's protocol (package host), events become a progress bar,
// values become text or, with --json, one object on the last line of standard output with keys in snake_case.
//
// Exit codes: 0 done, 1 failed, 2 used wrongly, 130 interrupted.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"tabtune/host"
)

// Exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// engine is the part of host.Host that the commands use; tests put a recorder in its place.
type engine interface {
	Call(ctx context.Context, method string, params, result any) error
	Task(ctx context.Context, name string, params any, event func(json.RawMessage) error) (json.RawMessage, error)
	Close() error
}

// app is what the commands have of the world.
type app struct {
	in       io.Reader
	out, err io.Writer
	open     func(context.Context, host.Options) (engine, error)
	width    int // columns of the terminal that err is, 0 if it is none
	now      func() time.Time
}

// command is one word of the command line.
type command struct {
	name, args, short string
	run               func(ctx context.Context, a *app, args []string) error
}

// commands in the order of the help text. A function, since help itself is one of them.
func commands() []command {
	return []command{
		{"train", "--model M.gguf --data D.csv --out DIR", "fine-tune a model; writes run.json, metrics.jsonl, replay.log and adapter/", train},
		{"eval", "--model M --data D.csv [--adapter DIR]", "accuracy, loss and the task's metric on validation rows", eval},
		{"data", "--model M --data D.csv", "show rows as the model will see them, with what is scored, and what is wrong with them", dataCommand},
		{"generate", "--model M --prompt S [--adapter DIR]", "continue a prompt", generate},
		{"export", "--model M --adapter DIR --format F --out FILE", "write an adapter, a merged model or a model card for other programs", exportCommand},
		{"tokenize", "--model M < lines", "token ids, one JSON array a line", tokenize},
		{"build", "--model M --out P.pte", "write the program that train would use, and its weights as P.ptd", build},
		{"run", "P.pte --method forward --inputs a.safetensors --outputs DIR", "run a method of a program", run},
		{"inspect", "P.pte", "describe a program", inspect},
		{"bench", "--model M", "measure the kernels, the forward pass and training steps", bench},
		{"serve", "[--addr 127.0.0.1:8080]", "serve the page", serveCommand},
		{"fetch", "", "download the example model and data", fetchCommand},
		{"version", "", "print the version", version},
		{"help", "[command]", "this text, or a command's flags", help},
	}
}

// usageError is a mistake in the command line.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second Ctrl-C ends the process at once
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, now: time.Now,
		open: func(ctx context.Context, o host.Options) (engine, error) { return host.Open(ctx, o) }}
	if fd := int(os.Stderr.Fd()); term.IsTerminal(fd) {
		if a.width, _, _ = term.GetSize(fd); a.width <= 0 {
			a.width = 80
		}
	}
	os.Exit(a.main(ctx, os.Args[1:]))
}

// main runs a command line and returns its exit code.
func (a *app) main(ctx context.Context, args []string) int {
	name := "help"
	if len(args) > 0 {
		name, args = args[0], args[1:]
	}
	if name == "-h" || name == "-help" || name == "--help" {
		name = "help"
	}
	if name == "--version" {
		name = "version"
	}
	for _, c := range commands() {
		if c.name == name {
			return a.exit(name, c.run(ctx, a, args), args)
		}
	}
	fmt.Fprintf(a.err, "tabtune: unknown command %q; see tabtune help\n", name)
	return exitUsage
}

// exit reports an error in one line on standard error, and with --json as the last line of standard output too.
func (a *app) exit(name string, err error, args []string) int {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	code, status := "failed", exitFailed
	var usage usageError
	var module *host.Error
	switch {
	case errors.Is(err, context.Canceled):
		code, status = "interrupted", exitInterrupted
	case errors.As(err, &usage):
		code, status = "usage", exitUsage
	case errors.As(err, &module):
		if code = module.Code; code == "invalid_params" {
			status = exitUsage
		}
	}
	message := err.Error()
	if status == exitInterrupted {
		message = "interrupted" + strings.TrimPrefix(strings.ReplaceAll(message, context.Canceled.Error(), ""), "interrupted")
	}
	fmt.Fprintf(a.err, "tabtune %s: %s\n", name, message)
	if wantsJSON(args) {
		_ = a.printJSON(map[string]any{"error": map[string]string{"code": code, "message": message}})
	}
	return status
}

// wantsJSON looks for --json without parsing, for errors that come before or in parsing.
func wantsJSON(args []string) bool {
	for _, s := range args {
		switch s {
		case "--json", "-json", "--json=true", "-json=true":
			return true
		case "--":
			return false
		}
	}
	return false
}

func help(_ context.Context, a *app, args []string) error {
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		for _, c := range commands() {
			if c.name == args[0] && c.name != "help" {
				return c.run(context.Background(), a, []string{"--help"})
			}
		}
		if args[0] != "help" {
			return usagef("unknown command %q; see tabtune help", args[0])
		}
	}
	fmt.Fprint(a.out, "Tabtune fine-tunes language models with forward passes only, in a browser tab or here.\n\nUsage:\n")
	for _, c := range commands() {
		fmt.Fprintf(a.out, "  tabtune %s\n        %s\n", strings.TrimSpace(c.name+" "+c.args), c.short)
	}
	fmt.Fprint(a.out, "\nEvery command takes --json (results as one object on the last line of standard output) and --help.\n"+
		"Exit codes: 0 done, 1 failed, 2 used wrongly, 130 interrupted.\n")
	return nil
}

func version(ctx context.Context, a *app, args []string) error {
	f := a.flags("version")
	if _, err := f.parse(args, 0); err != nil {
		return err
	}
	e, err := a.open(ctx, host.Options{Stderr: a.err})
	if err != nil {
		return err
	}
	defer e.Close()
	var h host.Hello
	if err := e.Call(ctx, "hello", nil, &h); err != nil {
		return err
	}
	if f.json {
		return a.printJSON(map[string]string{"version": h.Version})
	}
	_, err = fmt.Fprintf(a.out, "tabtune %s\n", h.Version)
	return err
}
