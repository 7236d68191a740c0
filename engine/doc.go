// Package engine loads and runs ExecuTorch programs.
//
// Load decodes nothing itself: it takes a pte.Program, builds one Graph a method (graph.go, build.go), rewrites it (pass.go),
// plans memory (memory.go) and runs the nodes one by one (method.go). Tensor bytes live in the memory of a kernel.Device;
// this package holds addresses and shapes.
//
// Every operator (op_*.go) has a schema, a shape rule, a reference in plain Go and, where it pays, a kernel call. The
// reference reads device memory, computes and writes back, so an operator without a kernel works too, slowly. It defines
// what the kernel must compute; tests compare the two.
//
// A program that has only kernel calls is straight-line code and is rewritten and planned anew. One with jumps, moves or
// frees runs as it is, in the memory plan of the file. Programs are taken to be hostile: what pte.Decode has not
// checked is checked here when a method is prepared, and sizes again on every call.
package engine
