package ref

import "math"

// The functions below repeat c/math.h operation by operation and give the same bits. Every product is converted to float32 (or
// float64) by name, which keeps the compiler from fusing it with the addition after it.

func bits(x float32) uint32        { return math.Float32bits(x) }
func fromBits(b uint32) float32    { return math.Float32frombits(b) }
func nearest(x float32) float32    { return float32(math.RoundToEven(float64(x))) }
func madd(a, b, c float32) float32 { return float32(a*b) + c }

func dmadd(a, b, c float64) float64 { return float64(a*b) + c }

// poly evaluates by Horner's rule, highest coefficient first.
func poly(x float32, c ...float32) float32 {
	y := c[0]
	for _, k := range c[1:] {
		y = madd(y, x, k)
	}
	return y
}

// saturate is a float's conversion to an integer in WebAssembly: clamped, NaN gives 0.
func saturate(x float64) int32 {
	switch {
	case x != x:
		return 0
	case x >= math.MaxInt32:
		return math.MaxInt32
	case x <= math.MinInt32:
		return math.MinInt32
	}
	return int32(x)
}

// Exp is e^x.
func Exp(x float32) float32 {
	if x < -104.5 {
		x = -104.5
	}
	if x > 89 {
		x = 89
	}
	n := nearest(x * 1.44269504)
	r := x - float32(n*0.693359375)
	r = r - float32(n*-2.12194440e-4)
	p := poly(r, 0.00138144626, 0.00836878084, 0.0416683927, 0.166665196, 0.49999994)
	p = madd(p, float32(r*r), r) + 1
	i := saturate(float64(n))
	h := i >> 1
	return float32(float32(p*fromBits(uint32(h+127)<<23)) * fromBits(uint32(i-h+127)<<23))
}

// Log is the natural logarithm.
func Log(x float32) float32 {
	switch {
	case x < 0:
		return float32(math.NaN())
	case x == 0:
		return float32(math.Inf(-1))
	case !(x < float32(math.Inf(1))):
		return x + x
	}
	b, tiny := bits(x), x < 1.17549435e-38
	if tiny {
		b = bits(x * 8388608)
	}
	i := int32(b-0x3f3504f3) >> 23
	f := fromBits(b-uint32(i)<<23) - 1
	if tiny {
		i -= 23
	}
	e, z := float32(i), float32(f*f)
	p := poly(f, 0.0691533685, -0.117897324, 0.118729457, -0.123843588, 0.142186642, -0.16669251, 0.200022265, -0.249999866, 0.333333105)
	y := float32(float32(f*z) * p)
	y = madd(e, -2.12194440e-4, y)
	y = y - float32(0.5*z)
	y = f + y
	return madd(e, 0.693359375, y)
}

// reduceHalfPi is x - n pi/2 and n, for x >= 0.
func reduceHalfPi(x float32) (float32, int32) {
	d := float64(x)
	n := math.RoundToEven(d * 0.63661977236758134308)
	d = d - float64(n*1.57079632673412561417)
	d = d - float64(n*6.07710050650619224932e-11)
	r := float32(d)
	if r < -0.7854 {
		r = -0.7854
	}
	if r > 0.7854 {
		r = 0.7854
	}
	return r, saturate(n)
}

func sinQuadrant(r float32, q int32) float32 {
	s := float32(r * r)
	var y float32
	if q&1 == 0 {
		y = madd(float32(poly(s, -0.000195166547, 0.00833217334, -0.166666552)*s), r, r)
	} else {
		b := poly(s, 2.44377297e-05, -0.00138873619, 0.0416666456)
		y = float32(b*float32(s*s)) - float32(0.5*s) + 1
	}
	return fromBits(bits(y) ^ uint32(q&2)<<30)
}

// Sin is the sine of x radians.
func Sin(x float32) float32 {
	r, q := reduceHalfPi(fromBits(bits(x) &^ (1 << 31)))
	return fromBits(bits(sinQuadrant(r, q)) ^ bits(x)&(1<<31))
}

// Cos is the cosine of x radians.
func Cos(x float32) float32 {
	r, q := reduceHalfPi(fromBits(bits(x) &^ (1 << 31)))
	return sinQuadrant(r, int32(uint32(q)+1))
}

func copysign(magnitude, sign float32) float32 {
	return fromBits(bits(magnitude)&^(1<<31) | bits(sign)&(1<<31))
}

func abs(x float32) float32 { return fromBits(bits(x) &^ (1 << 31)) }

// Tanh is the hyperbolic tangent.
func Tanh(x float32) float32 {
	ax := abs(x)
	if ax < 0.625 {
		s := float32(x * x)
		p := poly(s, -0.0057170419, 0.0206505843, -0.0537434965, 0.133314908, -0.333332837)
		return madd(float32(p*s), x, x)
	}
	return copysign(1-2/(Exp(ax+ax)+1), x)
}

// Sigmoid is 1 / (1 + e^-x).
func Sigmoid(x float32) float32 {
	e := Exp(-abs(x))
	if x < 0 {
		return e / (e + 1)
	}
	return 1 / (e + 1)
}

// Erf is the error function.
func Erf(x float32) float32 {
	ax := abs(x)
	if ax < 1 {
		p := poly(float32(x*x), 7.88911784e-05, -0.000802084047, 0.00518953521, -0.0268544443, 0.112836003, -0.37612626, 0.128379166)
		return madd(p, x, x)
	}
	if ax > 4 {
		ax = 4
	}
	q := poly(ax-1, -2.1686692e-05, 0.000289527583, -0.00201196573, 0.0100464514, -0.0415634811, -0.843107104, -2.63896751, -1.84960556)
	return copysign(1-Exp(q), x)
}

// SiLU is x sigmoid(x).
func SiLU(x float32) float32 { return x * Sigmoid(x) }

// GELU is x/2 (1 + erf(x / sqrt 2)).
func GELU(x float32) float32 { return float32(0.5*x) * (Erf(x*0.707106781) + 1) }

// GELUTanh is the approximation of GELU by tanh.
func GELUTanh(x float32) float32 {
	cube := float32(float32(x*x) * x)
	return float32(0.5*x) * (Tanh(madd(0.044715, cube, x)*0.797884561) + 1)
}

func log2Positive(x float64) float64 {
	b := int64(math.Float64bits(x))
	e := (b - 0x3fe6a09e667f3bcd) >> 52
	m := math.Float64frombits(uint64(b) - uint64(e)<<52)
	s := (m - 1) / (m + 1)
	z := float64(s * s)
	p := 1.0 / 23
	for k := 21; k >= 1; k -= 2 {
		p = dmadd(p, z, 1/float64(k))
	}
	return float64(e) + float64(2.8853900817779268147*float64(s*p))
}

func exp2(t float64) float64 {
	n := math.RoundToEven(t)
	r := float64((t - n) * 0.69314718055994530942)
	p := 1.0 / 479001600
	for _, factorial := range []float64{39916800, 3628800, 362880, 40320, 5040, 720, 120, 24, 6, 2, 1, 1} {
		p = dmadd(p, r, 1/factorial)
	}
	return p * math.Float64frombits(uint64(int64(n)+1023)<<52)
}

// Pow is x^y, with the special cases of C's powf.
func Pow(x, y float32) float32 {
	ax, ay := float64(abs(x)), float64(abs(y))
	whole := ay == math.Trunc(ay)
	odd := whole && ay < 1<<24 && int32(y)&1 == 1
	switch {
	case y == 0 || x == 1:
		return 1
	case x != x || y != y:
		return x + y
	case math.IsInf(ay, 0) || ax == 0 || math.IsInf(ax, 0):
		return float32(math.Pow(float64(x), float64(y)))
	case x < 0 && !whole:
		return float32(math.NaN())
	}
	t := max(-1000, min(1000, float64(float64(y)*log2Positive(ax))))
	r := float32(exp2(t))
	if x < 0 && odd {
		return -r
	}
	return r
}
