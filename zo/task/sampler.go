package task

import (
	"fmt"
	"sort"
)

// bucketBatches is how many batches' worth of shuffled examples are sorted by
// length together: enough that the examples of a batch are of similar length,
// few enough that the batches of an epoch differ from those of the next.
const bucketBatches = 8

// Sampler draws batches of examples of similar length. Batch(step) depends on
// the constructor's arguments and step alone, so a run resumes anywhere.
//
// An epoch is a fresh shuffle of all examples, cut into buckets of eight batches;
// each bucket is sorted by length and cut into batches, and the batches of the
// epoch are shuffled. The examples left over when the count is not a multiple of
// the batch (other ones in every epoch) sit the epoch out.
type Sampler struct {
	lengths []int
	batch   int
	seed    int64
	epoch   int64
	batches [][]int // of that epoch
}

// NewSampler samples examples with these lengths (Example.IDs' lengths). With
// fewer examples than batch, examples repeat within the batch.
func NewSampler(lengths []int, batch int, seed int64) (*Sampler, error) {
	if len(lengths) == 0 || batch < 1 {
		return nil, fmt.Errorf("cannot draw batches of %d from %d examples", batch, len(lengths))
	}
	return &Sampler{lengths: lengths, batch: batch, seed: seed, epoch: -1}, nil
}

// PerEpoch is the number of batches of an epoch.
func (s *Sampler) PerEpoch() int64 { return max(1, int64(len(s.lengths)/s.batch)) }

// Batch returns the indices of the examples of a step (from 0). The slice is the
// caller's.
func (s *Sampler) Batch(step int64) ([]int, error) {
	if step < 0 {
		return nil, fmt.Errorf("step %d is negative", step)
	}
	if e := step / s.PerEpoch(); e != s.epoch {
		s.epoch, s.batches = e, s.draw(e)
	}
	return append([]int(nil), s.batches[step%s.PerEpoch()]...), nil
}

func (s *Sampler) draw(epoch int64) [][]int {
	r := newRNG(s.seed, streamEpoch+uint64(epoch))
	order := r.perm(len(s.lengths))
	n := len(order)
	for len(order) < s.batch {
		order = append(order, order[len(order)-n]) // too few: go round
	}
	order = order[:int(s.PerEpoch())*s.batch]
	var batches [][]int
	for len(order) > 0 {
		bucket := order[:min(len(order), bucketBatches*s.batch)]
		order = order[len(bucket):]
		sort.SliceStable(bucket, func(i, j int) bool { return s.lengths[bucket[i]] < s.lengths[bucket[j]] })
		for ; len(bucket) > 0; bucket = bucket[s.batch:] {
			batches = append(batches, bucket[:s.batch:s.batch])
		}
	}
	out := make([][]int, len(batches))
	for i, j := range r.perm(len(batches)) {
		out[i] = batches[j]
	}
	return out
}
