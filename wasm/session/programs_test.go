package session

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"tabtune/engine"
	"tabtune/engine/kernel"
)

func (c *client) open(name string) int64 {
	c.t.Helper()
	var r struct {
		Program int64
		Methods []string
	}
	c.get("program.open", params{"path": filepath.Join(fixtures, name+".pte")}, &r)
	return r.Program
}

type placesOf struct {
	Places []struct{ Address, Bytes int64 }
}

type outputsOf struct {
	Outputs []struct {
		Tag, Value string
		DType      int
		Sizes      []int64
		Place      struct{ Address, Bytes int64 }
	}
}

// TestPrograms calls stock programs as the JavaScript API does, several open at once, and looks at what stays behind.
func TestPrograms(t *testing.T) {
	c := limited(t, 0)
	before := c.se.dev.InUse()
	linear, values := c.open("linear"), c.open("api_values")
	call := fixtureCalls(t, "linear")[0]
	x := call.Inputs[0]
	for range 2 {
		var at placesOf
		c.get("program.inputs", params{"program": linear, "method": call.Method, "inputs": []params{{"tag": "Tensor", "dtype": 6, "sizes": x.Sizes}}}, &at)
		if len(at.Places) != 1 || at.Places[0].Bytes != int64(len(x.Data)) {
			t.Fatalf("places %+v", at)
		}
		c.se.dev.Write(kernel.Addr(at.Places[0].Address), x.Data)
		var out outputsOf
		c.get("program.execute", params{"program": linear, "method": call.Method}, &out)
		got := make([]byte, out.Outputs[0].Place.Bytes)
		c.se.dev.Read(got, kernel.Addr(out.Outputs[0].Place.Address))
		g, w := engine.Tensor{DType: engine.F32, Sizes: []int{len(got) / 4}, Data: got}.Float32s(), call.Outputs[0].Data
		if len(w) != len(got) {
			t.Fatalf("output of %d bytes, want %d", len(got), len(w))
		}
		for i, want := range (engine.Tensor{DType: engine.F32, Sizes: []int{len(w) / 4}, Data: w}).Float32s() {
			if math.Abs(float64(g[i]-want)) > 2e-5*(1+math.Abs(float64(want))) {
				t.Errorf("output[%d] is %v, want %v", i, g[i], want)
			}
		}
		// The other program runs in between.
		c.get("program.inputs", params{"program": values, "method": "numbers", "inputs": []params{{"tag": "Tensor", "dtype": 6, "sizes": []int{2, 2}},
			{"tag": "Double", "value": "0.5"}, {"tag": "Int", "value": "3"}, {"tag": "Bool", "value": "true"}}}, &at)
		c.get("program.execute", params{"program": values, "method": "numbers"}, &out)
		var tags []string
		for _, o := range out.Outputs {
			tags = append(tags, o.Tag+o.Value)
		}
		if want := []string{"Tensor", "Double0.5", "Int3", "Booltrue", "None"}; !slices.Equal(tags, want) {
			t.Errorf("outputs %q, want %q", tags, want)
		}
	}
	for _, id := range []int64{linear, values} {
		c.get("program.close", params{"program": id}, &struct{}{})
	}
	if n := c.se.dev.InUse(); n != before {
		t.Errorf("%d bytes in use after close, %d before", n, before)
	}
}

// TestProgramErrors makes mistakes and expects to be told which.
func TestProgramErrors(t *testing.T) {
	c := limited(t, 0)
	refuse := func(method string, p params, code string, words ...string) {
		t.Helper()
		_, e := c.call(method, p)
		c.isError(method, e, code, words...)
	}
	bad := filepath.Join(t.TempDir(), "bad.pte")
	write(t, bad, read(t, filepath.Join(fixtures, "linear.pte"))[:1000])
	refuse("program.open", params{"path": bad}, "invalid_program", "bad.pte")
	refuse("program.open", params{"path": bad + ".none"}, "not_found", "bad.pte.none")
	refuse("program.open", params{"path": filepath.Join(fixtures, "linear.pte"), "data": []string{bad}}, "invalid_external_data", "bad.pte")
	id := c.open("api_add_mul")
	one := params{"tag": "Tensor", "dtype": 6, "sizes": []int{2, 2}}
	in := func(last params) params {
		return params{"program": id, "method": "forward", "inputs": []params{one, one, last}}
	}
	refuse("program.meta", params{"program": id + 1, "method": "forward"}, "invalid_state", "not open")
	refuse("program.load", params{"program": id, "method": "none"}, "invalid_argument", `"none"`)
	refuse("program.inputs", params{"program": id, "method": "forward", "inputs": []params{one}}, "invalid_argument", "1 inputs", "takes 3")
	refuse("program.inputs", in(params{"tag": "Int", "value": "1"}), "invalid_argument", "input 2", "Tensor", "Int")
	refuse("program.inputs", in(params{"tag": "Tensor", "dtype": 4, "sizes": []int{2, 2}}), "invalid_argument", "f32", "i64")
	refuse("program.inputs", in(params{"tag": "Tensor", "dtype": 6, "sizes": []int{-2, 2}}), "invalid_argument", "input 2", "-2")
	refuse("program.inputs", in(params{"tag": "Tensor", "dtype": 6, "sizes": []int{1 << 20, 1 << 20}}), "invalid_argument", "input 2")
	refuse("program.inputs", in(params{"tag": "Tensor", "dtype": 6, "sizes": []int{2, 2}, "order": []int{1, 0}}), "invalid_argument", "dimension order")
	refuse("program.profile", params{"program": id}, "invalid_state", "not observed")
	c.get("program.observe", params{"program": id, "on": true}, &struct{}{})
	refuse("program.profile", params{"program": id, "trace": filepath.Join(bad, "t.json")}, "failed", "t.json")
	c.get("program.close", params{"program": id}, &struct{}{})
	refuse("program.close", params{"program": id}, "invalid_state", "not open")
	for range maxPrograms {
		c.open("api_add")
	}
	refuse("program.open", params{"path": filepath.Join(fixtures, "api_add.pte")}, "busy", "close one first")
}

// TestETDump looks at the frame of the file; the stock tools read the rest.
func TestETDump(t *testing.T) {
	c := limited(t, 0)
	id := c.open("api_add")
	c.get("program.observe", params{"program": id, "on": true}, &struct{}{})
	vector := params{"tag": "Tensor", "dtype": 6, "sizes": []int{1}}
	var at placesOf
	var out outputsOf
	c.get("program.inputs", params{"program": id, "method": "forward", "inputs": []params{vector, vector}}, &at)
	c.get("program.execute", params{"program": id, "method": "forward"}, &out)
	path := filepath.Join(t.TempDir(), "profile.etdp")
	c.get("program.profile", params{"program": id, "etdump": path}, &struct{}{})
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	size := int(b[0]) | int(b[1])<<8 | int(b[2])<<16 | int(b[3])<<24
	if size != len(b)-4 || string(b[8:12]) != "ED00" || !bytes.Contains(b, []byte("aten::add.out")) {
		t.Errorf("%d bytes, prefix %d: %q", len(b), size, b)
	}
}
