// Zodump prints elements of the seeded normal for c/zocheck.py: seed, element, and the bits of u1, u2 and z.
package main

import (
	"bufio"
	"fmt"
	"math"
	"os"

	"tabtune/engine/kernel/code"
	"tabtune/engine/kernel/ref"
)

func main() {
	w := bufio.NewWriter(os.Stdout)
	for _, seed := range []int64{0, 1, 42, 1<<32 + 5, 1<<62 - 1} {
		k := ref.NewKey(seed)
		for i := range uint32(40_000) {
			e := i
			if i >= 20_000 {
				e = i * 53687 // up to 2^31
			}
			u1, u2 := k.Uniforms(e)
			z := k.Noise(code.ZoNormal, e)
			fmt.Fprintf(w, "%d %d %x %x %x\n", seed, e, math.Float32bits(u1), math.Float32bits(u2), math.Float32bits(z))
		}
	}
	if err := w.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, "zodump:", err)
		os.Exit(1)
	}
}
