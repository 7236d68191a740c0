package ref

// Window is the geometry of a convolution or pooling over the height and width of channels-last images.
type Window struct {
	KH, KW, SH, SW, DH, DW   int // kernel, stride and dilation
	Top, Left, Bottom, Right int // padding
}

// Out returns the output's height and width for an image of h by w, or false if the window does not fit.
func (w Window) Out(height, width int) (oh, ow int, ok bool) {
	y := height + w.Top + w.Bottom - ((w.KH-1)*w.DH + 1)
	x := width + w.Left + w.Right - ((w.KW-1)*w.DW + 1)
	return y/w.SH + 1, x/w.SW + 1, y >= 0 && x >= 0
}

// Pointwise: every output depends on one pixel, in the same place.
func (w Window) Pointwise() bool {
	return w.KH == 1 && w.KW == 1 && w.SH == 1 && w.SW == 1 && w.Top+w.Left+w.Bottom+w.Right == 0
}

// Each calls f for every tap inside an image of height by width, for the output at y, x.
func (w Window) Each(y, x, height, width int, f func(tap, row, col int)) {
	top, left := y*w.SH-w.Top, x*w.SW-w.Left
	for i := inside(top, w.DH); i < w.KH && top+i*w.DH < height; i++ {
		for j := inside(left, w.DW); j < w.KW && left+j*w.DW < width; j++ {
			f(i*w.KW+j, top+i*w.DH, left+j*w.DW)
		}
	}
}

// inside returns the first tap at or after 0, if the first of all is at origin.
func inside(origin, dilation int) int {
	if origin >= 0 {
		return 0
	}
	return (-origin + dilation - 1) / dilation
}

// Convolve is a channels-last convolution: sums of x times w, over taps and channels of a group.
func Convolve[T float64 | int64](x []T, sizes []int, w []T, oc, groups int, win Window, oh, ow int, zero func(image int) T, store func(at, channel, image int, sum T)) {
	h, wd, ic := sizes[1], sizes[2], sizes[3]
	icg, ocg := ic/groups, oc/groups
	taps := win.KH * win.KW
	for k := range sizes[0] * oh * ow {
		image := k / (oh * ow)
		z := zero(image)
		for o := range oc {
			var sum T
			g := o / ocg
			win.Each(k/ow%oh, k%ow, h, wd, func(tap, row, col int) {
				p := ((image*h+row)*wd+col)*ic + g*icg
				q := (o*taps + tap) * icg
				for c := range icg {
					sum += (x[p+c] - z) * w[q+c]
				}
			})
			store(k*oc+o, o, image, sum)
		}
	}
}

// Depthwise is a convolution with the filter [kh, kw, oc], whose output o reads channel o / multiplier.
func Depthwise[T float64 | int64](x []T, sizes []int, w []T, multiplier int, win Window, oh, ow int, zero T, store func(at, channel int, sum T)) {
	h, wd, ic := sizes[1], sizes[2], sizes[3]
	oc := ic * multiplier
	for k := range sizes[0] * oh * ow {
		for o := range oc {
			var sum T
			win.Each(k/ow%oh, k%ow, h, wd, func(tap, row, col int) {
				sum += (x[((k/(oh*ow)*h+row)*wd+col)*ic+o/multiplier] - zero) * w[tap*oc+o]
			})
			store(k*oc+o, o, sum)
		}
	}
}

// Transposed is the sum over inputs and taps of a transposed convolution with the filter [out, kh, kw, in/groups].
func Transposed[T float64 | int64](x []T, sizes []int, w []T, out []int, groups int, win Window, zero T) []T {
	h, wd, ic := sizes[1], sizes[2], sizes[3]
	oh, ow, oc := out[1], out[2], out[3]
	icg, ocg := ic/groups, oc/groups
	sums := make([]T, out[0]*out[1]*out[2]*out[3])
	for p := range sizes[0] * h * wd {
		for i := range win.KH {
			row := p/wd%h*win.SH - win.Top + i*win.DH
			if row < 0 || row >= oh {
				continue
			}
			for j := range win.KW {
				col := p%wd*win.SW - win.Left + j*win.DW
				if col < 0 || col >= ow {
					continue
				}
				at := ((p/(h*wd)*oh+row)*ow + col) * oc
				for o := range oc {
					q := ((o*win.KH+i)*win.KW + j) * icg
					for ch := range icg {
						sums[at+o] += (x[p*ic+o/ocg*icg+ch] - zero) * w[q+ch]
					}
				}
			}
		}
	}
	return sums
}
