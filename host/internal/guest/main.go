//go:build wasip1

// Command guest stands in for tabtune.wasm in the tests of package host: the same exports and protocol, and methods that do what a host
// must bear: long tasks, file access, memory, crashes.
package main

import (
	"errors"
	"os"
	"strings"
	"unsafe"

	"tabtune/wasm/rpc"
)

//go:wasmimport dev limit
func devLimit() int64

//go:wasmimport dev threads
func devThreads() int32

//go:wasmimport dev write
func devWrite(dst uint32, src unsafe.Pointer, n uint32)

type params struct {
	Path string `json:"path"`
	Text string `json:"text"`
	N    int    `json:"n"`
}

var (
	server   = rpc.NewServer(os.Stderr)
	buffers  = map[uint32][]byte{}
	response []byte
	stopped  int
	kept     [][]byte
)

func init() {
	rpc.Handle(server, "hello", func(struct{}) (any, error) {
		return map[string]any{"version": "guest", "threads": devThreads(), "deviceBytes": devLimit()}, nil
	})
	rpc.Handle(server, "read", func(p params) (string, error) {
		b, err := os.ReadFile(p.Path)
		return string(b), err
	})
	rpc.Handle(server, "write", func(p params) (any, error) {
		if err := os.WriteFile(p.Path+".tmp", []byte(p.Text), 0o644); err != nil {
			return nil, err
		}
		return nil, os.Rename(p.Path+".tmp", p.Path)
	})
	rpc.Handle(server, "environment", func(struct{}) ([]string, error) { return append(os.Environ(), os.Args...), nil })
	rpc.Handle(server, "stopped", func(struct{}) (int, error) { return stopped, nil })
	rpc.Handle(server, "panic", func(struct{}) (any, error) { panic("on purpose") })
	rpc.Handle(server, "crash", func(p params) (any, error) {
		switch p.Text {
		case "fatal":
			os.Stderr.WriteString("something fatal\n")
			os.Exit(3)
		case "device":
			devWrite(0xffffff00, unsafe.Pointer(&p), 4096)
		case "memory":
			for {
				kept = append(kept, make([]byte, 1<<30))
			}
		}
		return nil, errors.New("still alive")
	})
	rpc.Handle(server, "echo", func(p params) (string, error) { return strings.Repeat(p.Text, max(1, p.N)), nil })
	rpc.HandleTask(server, "count", func(t *rpc.Task, p params) (map[string]int, error) {
		defer func() { stopped++ }()
		for i := range p.N {
			if err := t.Emit(map[string]int{"done": i}); err != nil {
				return nil, err
			}
		}
		return map[string]int{"n": p.N}, nil
	})
}

func main() {}

//go:wasmexport tt_alloc
func alloc(n uint32) uint32 {
	if n == 0 || n > rpc.MaxRequest {
		return 0
	}
	b := make([]byte, n)
	p := address(b)
	buffers[p] = b
	return p
}

//go:wasmexport tt_free
func free(p uint32) { delete(buffers, p) }

//go:wasmexport tt_call
func call(ptr, n uint32) uint64 {
	response = server.Serve(buffers[ptr][:n])
	return uint64(address(response))<<32 | uint64(len(response))
}

func address(b []byte) uint32 { return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }
