package ui

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Bytes writes a size in decimal units, as browsers and disks do.
func Bytes(n int64) string {
	switch {
	case n < 0:
		return "unknown"
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1_000_000:
		return fmt.Sprintf("%.0f kB", float64(n)/1e3)
	case n < 1_000_000_000:
		return fmt.Sprintf("%.0f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.2f GB", float64(n)/1e9)
}

// Count writes a number with thin separators: 134515008 becomes "134.5 M", 1100048384 "1.10 billion", 1500 becomes "1,500".
func Count(n int64) string {
	if n >= 1_000_000_000 {
		return fmt.Sprintf("%.2f billion", float64(n)/1e9)
	}
	if n >= 1_000_000 {
		return fmt.Sprintf("%.1f M", float64(n)/1e6)
	}
	s := strconv.FormatInt(n, 10)
	if n >= 1000 {
		s = s[:len(s)-3] + "," + s[len(s)-3:]
	}
	return s
}

// Seconds writes a duration: "8 s", "2 min 05 s", "1 h 10 min".
func Seconds(s float64) string {
	if math.IsNaN(s) || math.IsInf(s, 0) || s < 0 || s > 1e7 {
		return "unknown"
	}
	d := time.Duration(s * float64(time.Second)).Round(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
}

// Roughly writes an estimated duration: "a few seconds", "about 20 s", "about 4 min", "about 1 h 10 min".
func Roughly(s float64) string {
	switch {
	case s < 10:
		return "a few seconds"
	case s < 90:
		return "about " + Seconds(math.Round(s/10)*10)
	case s < 3600:
		return fmt.Sprintf("about %.0f min", math.Ceil(s/60))
	}
	return "about " + Seconds(math.Round(s/600)*600)
}

// Percent writes a share: 0.684 becomes "68.4 %".
func Percent(x float64) string {
	if math.IsNaN(x) {
		return "–"
	}
	return fmt.Sprintf("%.1f %%", 100*x)
}

// Fixed writes a loss: three decimals.
func Fixed(x float64) string {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return "–"
	}
	return fmt.Sprintf("%.3f", x)
}

// Short writes a number with as few digits as it needs: 0.5, 1e-05.
func Short(x float64) string { return strconv.FormatFloat(x, 'g', 4, 64) }

// coreWatts is what one busy core of a laptop takes, the rest of the machine not counted: 5 to 15 W, less on phones.
const coreWatts = 8

// Energy writes about how much electricity so many busy cores take in a time, and its class: low, under 1 Wh, which is a fifteenth or less of what a
// phone's battery of 15 to 20 Wh holds; medium, up to half of it; high, above. A rough guide: cores differ by more than a factor of two.
func Energy(seconds float64, cores int) string {
	wh := seconds / 3600 * coreWatts * float64(max(1, cores))
	switch {
	case math.IsNaN(wh) || wh < 0 || wh > 1e6:
		return "unknown"
	case wh < 1:
		return "less than 1 Wh (low)"
	case wh < 8:
		return fmt.Sprintf("%.0f Wh (medium: up to half of a phone's battery)", wh)
	}
	return fmt.Sprintf("%.0f Wh (high: more than half of a phone's battery)", wh)
}

// Cores counts processor cores.
func Cores(n int) string {
	if n == 1 {
		return "1 core"
	}
	return fmt.Sprintf("%d cores", n)
}
