package task

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// Sizes of the split that WriteReviewsCSV makes.
const (
	ReviewTrainRows = 1000
	ReviewValRows   = 500
)

const reviewSeed = 1

// WriteReviewsCSV converts movieReviewSnippets_GroundTruth.txt, the movie-review
// sentences with human scores of Hutto and Gilbert (ICWSM 2014): lines of id,
// score (-4 to 4) and text, between tabs, in latin-1. Sentences with an absolute
// score of at least 0.5 are kept, labelled "positive" above zero and "negative"
// below, put in the order of this package's generator for seed 1, and written as
// CSV with the columns text and label: 1,000 to train, the next 500 to val.
func WriteReviewsCSV(r io.Reader, train, val io.Writer) error {
	const name = "movie reviews"
	data, err := io.ReadAll(io.LimitReader(r, MaxBytes+1))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if len(data) > MaxBytes {
		return fmt.Errorf("%s: more than %d bytes", name, MaxBytes)
	}
	if data, _, err = decodeText(data, name, true); err != nil {
		return err
	}
	var kept [][]string
	p := &tableReader{t: &Table{Name: name}}
	err = p.lines(data, func(line []byte, n int, off int64) error {
		f := bytes.SplitN(line, []byte("\t"), 3)
		if len(f) != 3 {
			return p.fail(n, off, nil, "%d values between tabs, want id, score and text", len(f))
		}
		score, err := strconv.ParseFloat(strings.TrimSpace(string(f[1])), 64)
		if err != nil || !(math.Abs(score) <= 4) {
			return p.fail(n, off, nil, "%q is not a score from -4 to 4", f[1])
		}
		if math.Abs(score) < 0.5 {
			return nil
		}
		label := "negative"
		if score > 0 {
			label = "positive"
		}
		kept = append(kept, []string{strings.TrimSpace(string(f[2])), label})
		return nil
	})
	if err != nil {
		return err
	}
	if len(kept) < ReviewTrainRows+ReviewValRows {
		return fmt.Errorf("%s: %d sentences with a clear score, %d are needed", name, len(kept), ReviewTrainRows+ReviewValRows)
	}
	order := newRNG(reviewSeed, streamReviews).perm(len(kept))
	write := func(w io.Writer, order []int) error {
		c := csv.NewWriter(w)
		c.Write([]string{"text", "label"}) // errors stick until Flush
		for _, i := range order {
			c.Write(kept[i])
		}
		c.Flush()
		return c.Error()
	}
	if err := write(train, order[:ReviewTrainRows]); err != nil {
		return fmt.Errorf("%s: writing the training rows: %w", name, err)
	}
	if err := write(val, order[ReviewTrainRows:ReviewTrainRows+ReviewValRows]); err != nil {
		return fmt.Errorf("%s: writing the validation rows: %w", name, err)
	}
	return nil
}
