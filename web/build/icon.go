package main

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
)

// The icon is static/icon.svg: a rounded square of 32 units with a falling curve of three cubic Bézier segments.
var (
	iconGround = color.NRGBA{0x0f, 0x5c, 0x5c, 0xff}
	iconCurve  = [][4][2]float64{{{5, 22}, {9, 22}, {9, 10}, {13, 10}}, {{13, 10}, {17, 10}, {17, 19}, {20, 19}}, {{20, 19}, {23, 19}, {23, 14}, {27, 14}}}
)

const (
	iconUnits, iconRadius, iconStroke = 32.0, 7.0, 2.6
	iconSamples                       = 4 // a pixel's side, against jagged edges
)

// icons draws the PNG icons that manifests and home screens ask for. A maskable icon fills its square, with the curve inside the circle that
// every mask leaves (the inner 80 %).
func (b *builder) icons() error {
	for _, i := range []struct {
		name     string
		size     int
		maskable bool
	}{{"icon-180", 180, true}, {"icon-192", 192, false}, {"icon-512", 512, false}, {"maskable-512", 512, true}} {
		var out bytes.Buffer
		if err := png.Encode(&out, drawIcon(i.size, i.maskable)); err != nil {
			return fmt.Errorf("%s: %w", i.name, err)
		}
		if err := b.put("icons/"+i.name+".png", out.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

func drawIcon(size int, maskable bool) image.Image {
	var line [][2]float64
	for _, c := range iconCurve {
		for i := range 33 {
			t := float64(i) / 32
			u := 1 - t
			var p [2]float64
			for k := range p {
				p[k] = u*u*u*c[0][k] + 3*u*u*t*c[1][k] + 3*u*t*t*c[2][k] + t*t*t*c[3][k]
			}
			line = append(line, p)
		}
	}
	shrink := 1.0
	if maskable {
		shrink = 0.75
	}
	img := image.NewNRGBA(image.Rect(0, 0, size, size))
	for y := range size {
		for x := range size {
			var ground, ink int
			for s := range iconSamples * iconSamples {
				px := (float64(x) + (float64(s%iconSamples)+0.5)/iconSamples) / float64(size) * iconUnits
				py := (float64(y) + (float64(s/iconSamples)+0.5)/iconSamples) / float64(size) * iconUnits
				if !maskable && outside(px, py) {
					continue
				}
				ground++
				if distance(line, (px-16)/shrink+16, (py-16)/shrink+16) <= iconStroke/2 {
					ink++
				}
			}
			if ground == 0 {
				continue
			}
			white := float64(ink) / float64(ground)
			mix := func(c uint8) uint8 { return uint8(math.Round(float64(c) + white*(255-float64(c)))) }
			img.SetNRGBA(x, y, color.NRGBA{mix(iconGround.R), mix(iconGround.G), mix(iconGround.B), uint8(255 * ground / (iconSamples * iconSamples))})
		}
	}
	return img
}

// outside tells whether a point lies in a corner that the rounding cuts off.
func outside(x, y float64) bool {
	dx := math.Max(iconRadius-x, x-(iconUnits-iconRadius))
	dy := math.Max(iconRadius-y, y-(iconUnits-iconRadius))
	return dx > 0 && dy > 0 && math.Hypot(dx, dy) > iconRadius
}

// distance of a point to a line of short segments.
func distance(line [][2]float64, x, y float64) float64 {
	least := math.Inf(1)
	for i := range len(line) - 1 {
		a, b := line[i], line[i+1]
		vx, vy := b[0]-a[0], b[1]-a[1]
		t := 0.0
		if l := vx*vx + vy*vy; l > 0 {
			t = min(1, max(0, ((x-a[0])*vx+(y-a[1])*vy)/l))
		}
		least = min(least, math.Hypot(x-a[0]-t*vx, y-a[1]-t*vy))
	}
	return least
}
