package collect

import "runtime"

// least is the garbage that is worth a collection however little is live.
const least = 3 << 20

var live uint64 // of the heap after the last collection

// Now runs the garbage collector if the heap is a quarter larger than after its last run.
func Now() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if live > 0 && m.HeapAlloc < live+max(least, live/4) {
		return
	}
	runtime.GC()
	runtime.ReadMemStats(&m)
	live = m.HeapAlloc
}
