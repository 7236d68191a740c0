package lora

import (
	"math"
	"slices"
	"testing"

	"tabtune/engine"
)

// TestScheduled compares programs whose nodes were moved to save memory with the same ones left in order: the same bits, in less memory.
func TestScheduled(t *testing.T) {
	c := tinyCheckpoint(t)
	dev := newDevice(t, 1)
	ordered := slices.DeleteFunc(engine.DefaultPasses(), func(p engine.Pass) bool { return p.Name == "schedule" })
	if len(ordered) != len(engine.DefaultPasses())-1 {
		t.Fatal("no pass is named schedule")
	}
	for _, dt := range []DType{F32, Int8, Q4} {
		w := loadWeights(t, c, dt)
		for name, s := range testSpecs(c.Config) {
			s.DType = dt
			got := losses(t, dev, s, w, engine.Options{ShareArena: true})
			for i, v := range losses(t, dev, s, w, engine.Options{ShareArena: true, Passes: ordered}) {
				if math.Float32bits(v) != math.Float32bits(got[i]) {
					t.Fatalf("%s %s: value %d is %v, in order %v", dt, name, i, got[i], v)
				}
			}
		}
		s := Spec{Model: c.Config, DType: dt, Modules: []string{"q", "v"}, Top: 3, Rank: 4, Alpha: 8, Queries: 4, Window: 24, Rows: 16, Scored: 16}
		file, err := Build(s)
		if err != nil {
			t.Fatal(err)
		}
		arena := func(passes []engine.Pass) int64 {
			p, err := engine.Load(dev, file, engine.Options{Data: []engine.DataSource{w}, ShareArena: true, Passes: passes})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			return method(t, p, "forward").Memory().Arena
		}
		if moved, stay := arena(nil), arena(ordered); moved >= stay {
			t.Errorf("%s: the arena has %d bytes, in order %d", dt, moved, stay)
		}
	}
}
