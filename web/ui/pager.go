package ui

import "fmt"

// Pager shows a long list a part at a time: a page draws everything anew when something changes, so it has to draw little.
type Pager struct {
	At int // first row shown
}

// PageRows is how many rows are shown at once.
const PageRows = 10

// Range is the part of n rows to show.
func (p *Pager) Range(n int) (lo, hi int) {
	if p.At >= n {
		p.At = max(0, (n-1)/PageRows*PageRows)
	}
	return p.At, min(n, p.At+PageRows)
}

// Text says which rows of n are shown.
func (p *Pager) Text(n int) string {
	lo, hi := p.Range(n)
	if n == 0 {
		return "None."
	}
	return fmt.Sprintf("%d to %d of %s", lo+1, hi, Count(int64(n)))
}

// Move turns pages: by -1 or 1.
func (p *Pager) Move(by int) { p.At = max(0, p.At+by*PageRows) }

// First and Last say whether there is no page before or after.
func (p *Pager) First() bool { return p.At == 0 }

// Last says whether there is no page after this one.
func (p *Pager) Last(n int) bool { return p.At+PageRows >= n }
