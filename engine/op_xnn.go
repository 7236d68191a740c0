package engine

// Operators of XNNPACK that core ATen lacks.

func init() {
	hardswish := unaryOp{f: func(x float64) float64 { return x * min(max(x+3, 0), 6) / 6 }}
	Register(Op{Name: "tabtune::hardswish.out", Schema: "tabtune::hardswish.out(Tensor x, *, Tensor(a!) out) -> Tensor(a!)", Shape: shapeSame,
		Check: checkUnary(hardswish), Ref: func(c *Call) { c.mapUnary(hardswish) }})
}
