package main

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// progress shows how far something is: a bar that redraws itself on a terminal, a line now and then elsewhere.
type progress struct {
	app   *app
	name  string
	start time.Time
	from  int64 // done when start was taken, which a continued run does not begin at zero
	last  time.Time
	drawn bool
}

// Shortest times between two drawings.
const (
	barInterval  = 100 * time.Millisecond
	lineInterval = 20 * time.Second
)

// update shows done of total units of name. detail is shown after the bar; left is the time left in seconds, or negative to
// have it estimated from the rate so far.
func (p *progress) update(name string, done, total int64, detail string, left float64) {
	now := p.app.now()
	if name != p.name {
		p.clear()
		*p = progress{app: p.app, name: name, start: now, from: done}
	}
	interval := lineInterval
	if p.app.width > 0 {
		interval = barInterval
	}
	if now.Sub(p.last) < interval && !(done >= total && p.app.width > 0) {
		return
	}
	p.last = now
	elapsed := now.Sub(p.start).Seconds()
	if left < 0 && done > p.from && elapsed > 0.5 {
		left = elapsed / float64(done-p.from) * float64(total-done)
	}
	var fraction float64
	if total > 0 {
		fraction = min(1, max(0, float64(done)/float64(total)))
	}
	if left >= 0 && done < total {
		detail = strings.TrimLeft(detail+"  "+duration(left)+" left", " ")
	}
	if p.app.width == 0 {
		fmt.Fprintf(p.app.err, "%s %3.0f%%  %s\n", name, 100*fraction, detail)
		return
	}
	const cells = 24
	full := int(fraction * cells)
	line := fmt.Sprintf("%-8s [%s%s] %3.0f%%  %s", name, strings.Repeat("#", full), strings.Repeat("-", cells-full), 100*fraction, detail)
	if n := p.app.width - 1; utf8.RuneCountInString(line) > n {
		line = string([]rune(line)[:n])
	}
	fmt.Fprintf(p.app.err, "\r\x1b[K%s", line)
	p.drawn = true
}

// bytes shows a transfer: amount, rate and time left.
func (p *progress) bytes(name string, done, total int64) {
	detail := size(done) + " of " + size(total)
	if p.name == name {
		if s := p.app.now().Sub(p.start).Seconds(); s > 0.5 && done > p.from {
			detail += fmt.Sprintf("  %s/s", size(int64(float64(done-p.from)/s)))
		}
	}
	p.update(name, done, total, detail, -1)
}

// printf writes a line that stays.
func (p *progress) printf(format string, args ...any) {
	p.clear()
	fmt.Fprintf(p.app.err, format+"\n", args...)
}

// clear takes the bar off the terminal.
func (p *progress) clear() {
	if p.drawn {
		fmt.Fprint(p.app.err, "\r\x1b[K")
		p.drawn = false
	}
}

// size writes a number of bytes for people.
func size(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.2f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%d B", n)
}

// duration writes a number of seconds for people.
func duration(seconds float64) string {
	if !(seconds < 1e9) {
		return "long"
	}
	d := time.Duration(seconds * float64(time.Second)).Round(time.Second)
	if d < time.Minute {
		return fmt.Sprintf("%ds", int(d.Seconds()))
	}
	if d < time.Hour {
		return fmt.Sprintf("%d:%02d min", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d:%02d h", int(d.Hours()), int(d.Minutes())%60)
}
