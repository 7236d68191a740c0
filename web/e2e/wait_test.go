package e2e

import (
	"context"
	"strconv"
	"strings"
	"time"
)

type contextT = context.Context

// wait asks until the answer is yes.
func wait(ctx context.Context, ok func() bool) error {
	for !ok() {
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// number is the y of "x,y".
func number(point string) float64 {
	_, y, _ := strings.Cut(point, ",")
	f, _ := strconv.ParseFloat(y, 64)
	return f
}
