//go:build wasip1

// Command wasm is tabtune.wasm, the module that the page and the command line both load: a WASI reactor
// (GOOS=wasip1 -buildmode=c-shared) with four exports.
//
//	_initialize()                          once, before anything else
//	tt_alloc(n u32) u32                    n bytes of the module's memory, 0 when n is 0 or too large
//	tt_free(p u32)                         gives them back; an unknown p is ignored
//	tt_call(ptr u32, len u32) u64          one request of package rpc at ptr -> (ptr<<32 | len) of the response
//
// A response stays valid until the next tt_call. The host must not call tt_call while another is running: the module has one
// thread. Files come through WASI's preopened folders; tensors live in the memory of kernels.wasm (package engine/kernel).
package main

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"tabtune/wasm/rpc"
	"tabtune/wasm/session"
)

var (
	server   = rpc.NewServer(os.Stderr)
	buffers  = map[uint32][]byte{} // what tt_alloc gave out, by address; keeps it alive
	response []byte                // the last response, kept alive until the next
)

func init() { session.Register(server) }

func main() {} // a reactor: never run, c-shared asks for it

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
	b, ok := buffers[ptr]
	if !ok || uint64(n) > uint64(len(b)) {
		fmt.Fprintf(os.Stderr, "tt_call: %d bytes at %#x do not come from tt_alloc\n", n, ptr)
		response = []byte(`{"error":{"code":"parse","message":"the request does not lie in a buffer of tt_alloc"}}`)
	} else {
		runtime.Gosched() // the collector's workers run only when asked: nothing preempts the one thread
		response = server.Serve(b[:n])
	}
	return uint64(address(response))<<32 | uint64(len(response))
}

// address is the offset of b's bytes in the module's memory. Go's collector does not move objects.
func address(b []byte) uint32 { return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }
