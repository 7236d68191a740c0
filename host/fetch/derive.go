package fetch

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"tabtune/internal/assets"
	"tabtune/zo/task"
)

// derive writes the training and validation rows that are taken from the reviews. A file that is right already is left alone.
func (o *Options) derive() error {
	f, err := os.Open(filepath.Join(o.Dir, assets.Reviews))
	if errors.Is(err, os.ErrNotExist) {
		return nil // not among the assets: a test
	}
	if err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	defer f.Close()
	var train, val bytes.Buffer
	if err := task.WriteReviewsCSV(f, &train, &val); err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	for name, b := range map[string][]byte{assets.ReviewsTrain: train.Bytes(), assets.ReviewsVal: val.Bytes()} {
		path := filepath.Join(o.Dir, name)
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, b) {
			continue
		}
		part := filepath.Join(o.Dir, ".part-"+name)
		if err := os.WriteFile(part, b, 0o644); err != nil {
			return fmt.Errorf("fetch: %w", err)
		}
		if err := os.Rename(part, path); err != nil {
			return fmt.Errorf("fetch: %w", err)
		}
	}
	return nil
}
