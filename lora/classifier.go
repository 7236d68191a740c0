package lora

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strconv"

	"tabtune/internal/atomicfile"
	"tabtune/lora/safetensors"
)

// ClassifierFile is a classifier's file in an adapter's folder: safetensors with
// "weight" F32 [labels, dim or 2 dim] and "bias" F32 [labels], and metadata that
// says what they are for.
const ClassifierFile = "classifier.safetensors"

const classifierFormat = "tabtune-classifier-1"

// What the weights multiply: the state at the scored position, or that and the mean up to there.
const (
	readsLast = "last"
	readsMean = "last+mean"
)

// ClassifierInfo is the metadata of a ClassifierFile.
type ClassifierInfo struct {
	Labels []string // in the order of the rows
	Model  string   // name of the model
}

// WriteClassifier writes a classifier to dir/ClassifierFile.
func WriteClassifier(dir string, c *Classifier, info ClassifierInfo) error {
	n := int64(len(c.Bias))
	names, err := json.Marshal(info.Labels)
	if err != nil {
		return err
	}
	reads := readsLast
	if c.Mean {
		reads = readsMean
	}
	meta := map[string]string{"format": classifierFormat, "reads": reads, "layer": strconv.Itoa(c.Layer), "labels": string(names), "model": info.Model}
	outs := []safetensors.Out{safetensors.Float32s("bias", safetensors.F32, []int64{n}, c.Bias),
		safetensors.Float32s("weight", safetensors.F32, []int64{n, int64(len(c.Weight)) / n}, c.Weight)}
	return atomicfile.Write(filepath.Join(dir, ClassifierFile), func(w io.Writer) error { return safetensors.Write(w, outs, meta) })
}

// Limits on a classifier's file.
const (
	maxClassifierLabels = 1 << 12
	maxClassifierDim    = 1 << 16
)

// ReadClassifier reads dir/ClassifierFile. Errors name the file and the field.
func ReadClassifier(dir string) (*Classifier, ClassifierInfo, error) {
	path := filepath.Join(dir, ClassifierFile)
	var info ClassifierInfo
	fail := func(format string, args ...any) (*Classifier, ClassifierInfo, error) {
		return nil, info, fmt.Errorf("%s: %w", path, fmt.Errorf(format, args...))
	}
	f, closer, err := safetensors.Open(path)
	if err != nil {
		return nil, info, err
	}
	defer closer.Close() // read only
	if f.Metadata["format"] != classifierFormat {
		return fail("metadata: format is %q, want %q", f.Metadata["format"], classifierFormat)
	}
	c := &Classifier{}
	if c.Layer, err = strconv.Atoi(f.Metadata["layer"]); err != nil || c.Layer < 1 {
		return fail("metadata: layer is %q", f.Metadata["layer"])
	}
	switch f.Metadata["reads"] {
	case readsLast:
	case readsMean:
		c.Mean = true
	default:
		return fail("metadata: reads is %q, want %q or %q", f.Metadata["reads"], readsLast, readsMean)
	}
	info.Model = f.Metadata["model"]
	if err := json.Unmarshal([]byte(f.Metadata["labels"]), &info.Labels); err != nil {
		return fail("metadata: labels: %w", err)
	}
	n := int64(len(info.Labels))
	if n < 2 || n > maxClassifierLabels {
		return fail("metadata: %d labels, want 2 to %d", n, maxClassifierLabels)
	}
	if len(f.Tensors) != 2 {
		return fail("%d tensors, want weight and bias", len(f.Tensors))
	}
	for i := range f.Tensors {
		t := f.Tensors[i]
		want, to := []int64{n}, &c.Bias
		if t.Name == "weight" {
			if len(t.Shape) != 2 || t.Shape[1] < 1 || t.Shape[1] > maxClassifierDim {
				return fail("weight: shape %v", t.Shape)
			}
			want, to = []int64{n, t.Shape[1]}, &c.Weight
		} else if t.Name != "bias" {
			return fail("tensor %q, want weight and bias", t.Name)
		}
		if t.DType != safetensors.F32 || fmt.Sprint(t.Shape) != fmt.Sprint(want) {
			return fail("%s: %s of shape %v, want F32 %v for %d labels", t.Name, t.DType, t.Shape, want, n)
		}
		if *to, err = t.Float32s(); err != nil {
			return nil, info, err
		}
		for j, v := range *to {
			if v-v != 0 {
				return fail("%s[%d] is %v", t.Name, j, v)
			}
		}
	}
	return c, info, nil
}
