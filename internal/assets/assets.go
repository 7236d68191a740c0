// Package assets knows the model and data that the tests, the page's start screen and the examples use, and where they lie. It
// downloads nothing: "make fetch" (package host/fetch) does. It imports nothing, so that every package's tests can import it.
package assets

import (
	"fmt"
	"os"
	"path/filepath"
)

// Names of the files in [Dir].
const (
	// Model is SmolLM2-135M-Instruct as GGUF: Q4_1 matrices, Q8_0 embedding, Apache-2.0.
	Model = "SmolLM2-135M-Instruct.Q4_1.gguf"
	// Gemma is Gemma-3-270M as GGUF: Q4_K_M, 253 MB, under the Gemma terms of use. Fetched on request only, by "make fetch-gemma".
	Gemma = "gemma-3-270m-q4_k_m.gguf"
	// Reviews are 10,605 movie-review sentences, a line each: id, mean score from -4 to 4, text, separated by tabs; latin-1, MIT.
	Reviews = "movieReviewSnippets_GroundTruth.txt"
	// ReviewsTrain and ReviewsVal are 1,000 and 500 of these as CSV with the columns text and label (negative, positive).
	ReviewsTrain = "movie-reviews-train.csv"
	ReviewsVal   = "movie-reviews-val.csv"
)

// EnvDir names the folder of the assets; EnvCache names the cache folder, whose "assets" is used otherwise; with EnvRequire set to 1
// a test that lacks an asset fails instead of being skipped.
const (
	EnvDir     = "TABTUNE_ASSETS"
	EnvCache   = "TABTUNE_CACHE"
	EnvRequire = "TABTUNE_REQUIRE_ASSETS"
)

// CacheDir is $TABTUNE_CACHE, or "tabtune" in the user's cache folder.
func CacheDir() (string, error) {
	if d := os.Getenv(EnvCache); d != "" {
		return filepath.Abs(d)
	}
	d, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache folder (set %s): %w", EnvCache, err)
	}
	return filepath.Join(d, "tabtune"), nil
}

// Dir is the folder of the assets: $TABTUNE_ASSETS, or "assets" in [CacheDir]. It need not exist.
func Dir() (string, error) {
	if d := os.Getenv(EnvDir); d != "" {
		return filepath.Abs(d)
	}
	d, err := CacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(d, "assets"), nil
}

// TB is the part of testing.TB that [Need] uses.
type TB interface {
	Helper()
	Skipf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Need returns the path of an asset for a test, and skips the test (or fails it, see [EnvRequire]) when it is not there.
func Need(t TB, name string) string {
	t.Helper()
	dir, err := Dir()
	if err != nil {
		t.Fatalf("assets: %v", err)
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		stop := t.Skipf
		if os.Getenv(EnvRequire) == "1" {
			stop = t.Fatalf
		}
		stop("%s is absent: run \"make fetch\", or set %s", path, EnvDir)
	}
	return path
}
