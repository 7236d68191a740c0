//go:build !wasip1

package kernel

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// number is an element type of device memory.
type number interface {
	~int8 | ~uint8 | ~int16 | ~uint16 | ~int32 | ~uint32 | ~int64 | ~float32
}

// put copies v to fresh device memory.
func put[T number](t testing.TB, d *Device, v []T) Addr {
	t.Helper()
	b := encode(t, v)
	a := alloc(t, d, int64(len(b)))
	d.Write(a, b)
	return a
}

// get copies n elements from device memory.
func get[T number](d *Device, a Addr, n int) []T {
	v := make([]T, n)
	b := make([]byte, binary.Size(v))
	d.Read(b, a)
	if _, err := binary.Decode(b, binary.LittleEndian, v); err != nil {
		panic(err)
	}
	return v
}

// equal reports the first element in which got differs from want, bit for bit.
func equal[T number](t testing.TB, what string, got, want []T) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	g, w := encode(t, got), encode(t, want)
	if bytes.Equal(g, w) {
		return
	}
	size := len(g) / len(got)
	for i := range got {
		if !bytes.Equal(g[i*size:(i+1)*size], w[i*size:(i+1)*size]) {
			t.Fatalf("%s: element %d of %d is %v, want %v", what, i, len(got), got[i], want[i])
		}
	}
}

// encode returns the bytes of v as device memory holds them.
func encode[T number](t testing.TB, v []T) []byte {
	t.Helper()
	b, err := binary.Append(nil, binary.LittleEndian, v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// freeAll returns a function that frees what is allocated from here on.
func freeAll(d *Device) func() {
	before := make(map[Addr]bool, len(d.live))
	for a := range d.live {
		before[a] = true
	}
	return func() {
		for a := range d.live {
			if !before[a] {
				d.Free(a)
			}
		}
	}
}
