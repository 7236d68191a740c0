//go:build !wasip1

package kernel

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// raw is v as it lies in device memory.
func raw[T number](v []T) []byte {
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// writeAll copies v over existing device memory.
func writeAll[T number](d *Device, a Addr, v []T) { d.Write(a, raw(v)) }

// match is equal, fast where nothing differs.
func match[T number](t testing.TB, what string, got, want []T) {
	t.Helper()
	if !bytes.Equal(raw(got), raw(want)) {
		equal(t, what, got, want)
	}
}
