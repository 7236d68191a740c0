// Package collect runs the garbage collector while a program is built and loaded.
//
// Under WebAssembly there is one thread and nothing preempts it: a collection that has begun goes on when the code that allocates
// next blocks, and until then the heap grows. Memory that was grown is never given back, so what is built in one go, tens of megabytes of
// short-lived nodes, would stay the module's size.
package collect
