package engine

import "tabtune/engine/pte"

// hints gives arguments that fit together where drawing each alone hardly ever does.
var hints = map[string]map[string]func(d *drawer) int{}

func init() {
	image := func(d *drawer) int {
		d.size = []int{1 + d.r.IntN(2), 1 + d.r.IntN(6), 1 + d.r.IntN(12), 1 + d.r.IntN(12)}
		if d.r.IntN(3) > 0 {
			d.main = F32
		}
		return d.tensor(d.main, d.size...)
	}
	list := func(n int, of ...int64) func(d *drawer) int {
		return func(d *drawer) int {
			l := make([]int64, n)
			for k := range l {
				l[k] = of[d.r.IntN(len(of))]
			}
			return d.b.ints(l...)
		}
	}
	channels := func(d *drawer) int { return d.tensor(d.main, d.size[1]) }
	boolean := func(x bool) func(d *drawer) int {
		return func(d *drawer) int { return d.b.add(pte.BoolValue(x)) }
	}
	number := func(f func(d *drawer) int) func(d *drawer) int {
		return func(d *drawer) int { return d.b.add(pte.IntValue(f(d))) }
	}
	type hint = map[string]func(d *drawer) int
	groups := 1
	hints["aten::convolution.out"] = hint{"input": func(d *drawer) int {
		groups = 1 + d.r.IntN(3)
		v := image(d)
		d.ins, d.b = nil, newBuilder()
		_ = v
		d.size[1] = groups * (1 + d.r.IntN(5))
		if d.r.IntN(4) == 0 {
			groups = d.size[1] // depthwise
		}
		if d.r.IntN(4) == 0 {
			d.size = d.size[:3]
		} else if d.r.IntN(6) == 0 {
			d.size = append(d.size, 1+d.r.IntN(5))
		}
		return d.tensor(d.main, d.size...)
	}, "weight": func(d *drawer) int {
		s := []int{groups * (1 + d.r.IntN(9)), d.size[1] / groups}
		if d.r.IntN(3) == 0 {
			s = []int{d.size[1], 1 + d.r.IntN(3)}
		}
		for range d.size[2:] {
			s = append(s, 1+d.r.IntN(4))
		}
		return d.tensor(d.main, s...)
	}, "bias": func(d *drawer) int { return d.b.add(pte.Null{}) }, "stride": list(1, 1, 1, 2, 3), "padding": list(1, 0, 1, 2), "dilation": list(1, 1, 1, 2),
		"output_padding": list(1, 0), "groups": number(func(*drawer) int { return groups })}
	pool := hint{"self": image, "kernel_size": list(2, 1, 2, 3, 4), "stride": list(2, 1, 2, 3), "padding": list(2, 0, 0, 1), "dilation": list(2, 1, 1, 2)}
	hints["aten::max_pool2d_with_indices.out"] = pool
	hints["aten::avg_pool2d.out"] = pool
	hints["aten::_adaptive_avg_pool2d.out"] = hint{"self": image, "output_size": list(2, 1, 2, 3, 5)}
	norm := hint{"input": image, "weight": channels, "bias": channels, "running_mean": channels, "running_var": channels, "training": boolean(false)}
	hints["aten::_native_batch_norm_legit_no_training.out"] = norm
	hints["aten::_native_batch_norm_legit.out"] = norm
	hints["aten::_native_batch_norm_legit.no_stats_out"] = norm
	hints["aten::native_group_norm.out"] = hint{"input": image, "weight": channels, "bias": channels, "N": number(func(d *drawer) int { return d.size[0] }),
		"C": number(func(d *drawer) int { return d.size[1] }), "HxW": number(func(d *drawer) int { return d.size[2] * d.size[3] }), "group": number(func(*drawer) int { return 1 })}
	for _, n := range []string{"reflection_pad", "replication_pad"} {
		for k, s := range []string{"1d", "2d", "3d"} {
			hints["aten::"+n+s+".out"] = hint{"self": func(d *drawer) int {
				d.size = append(d.size[:0], 2)
				for range k + 1 {
					d.size = append(d.size, 3+d.r.IntN(4))
				}
				return d.tensor(d.main, d.size...)
			}, "padding": list(2*(k+1), 0, 1, 2, -1)}
		}
	}
	none := func(d *drawer) int { return d.b.add(pte.Null{}) }
	hints["aten::upsample_nearest2d.vec_out"] = hint{"input": image, "output_size": list(2, 1, 3, 7, 12), "scale_factors": none}
	hints["aten::upsample_bilinear2d.vec_out"] = hints["aten::upsample_nearest2d.vec_out"]
	hints["aten::_upsample_bilinear2d_aa.out"] = hint{"self": image, "output_size": list(2, 1, 3, 7, 12), "scales_h": none, "scales_w": none}
	hints["aten::grid_sampler_2d.out"] = hint{"input": image, "grid": func(d *drawer) int { return d.tensor(d.main, d.size[0], 3, 4, 2) },
		"interpolation_mode": number(func(d *drawer) int { return d.r.IntN(3) }), "padding_mode": number(func(d *drawer) int { return d.r.IntN(3) })}
	matrix := func(rank int) func(d *drawer) int {
		return func(d *drawer) int {
			d.size = []int{2, 1 + d.r.IntN(6), 1 + d.r.IntN(6)}[3-rank:]
			return d.tensor(d.main, d.size...)
		}
	}
	second := func(d *drawer) int {
		s := append([]int(nil), d.size...)
		s[len(s)-2], s[len(s)-1] = s[len(s)-1], 1+d.r.IntN(10)
		return d.tensor(d.main, s...)
	}
	hints["aten::mm.out"] = hint{"self": matrix(2), "mat2": second}
	hints["aten::bmm.out"] = hint{"self": matrix(3), "mat2": second}
	hints["aten::linear.out"] = hint{"input": matrix(3), "weight": func(d *drawer) int { return d.tensor(d.main, 5, d.size[2]) }, "bias": none}
	heads := func(d *drawer) int {
		d.size = []int{1 + d.r.IntN(2), 1 + d.r.IntN(5), 4, 1 + d.r.IntN(20)}
		d.main = []DType{F32, F32, F16, BF16}[d.r.IntN(4)]
		return d.tensor(d.main, d.size...)
	}
	keys := func(n int) func(d *drawer) int {
		return func(d *drawer) int { return d.tensor(d.main, d.size[0], d.size[1]+n, 2, d.size[3]) }
	}
	three := number(func(d *drawer) int { return d.r.IntN(4) })
	hints["llama::custom_sdpa.out"] = hint{"query": heads, "key": keys(3), "value": keys(3), "start_pos": three, "attn_mask": none, "scale": none}
	hints["llama::sdpa_with_kv_cache.out"] = hint{"query": heads, "key": keys(0), "value": keys(0), "key_cache": keys(4), "value_cache": keys(4), "start_pos": three,
		"seq_len": number(func(d *drawer) int { return d.size[1] }), "attn_mask": none, "scale": none}
	value := keys0(heads)
	// The output of a cache update is a placeholder: the cache is what is compared.
	placeholder := func(d *drawer) int {
		v := d.b.dynamic(F32, pte.DynamicUnbound, 0)
		d.b.plan.Values[v].(*pte.Tensor).Alloc = nil
		d.b.output(d.b.plan.Inputs[1])
		return v
	}
	hints["llama::update_cache.out"] = hint{"value": value, "cache": keys(4), "start_pos": three, "out": placeholder}
	hints["aten::repeat_interleave.Tensor_out"] = hint{"repeats": func(d *drawer) int {
		v := d.tensor(I64, 1+d.r.IntN(5))
		for k := range d.ins[0].Data {
			d.ins[0].Data[k] = byte(d.r.IntN(4) * (1 - min(k%8, 1)))
		}
		return v
	}, "output_size": none, "out": out(I64, 1)}
	at := func(t DType, sizes func(d *drawer) []int) func(d *drawer) int {
		return func(d *drawer) int { return d.tensor(t, sizes(d)...) }
	}
	start := func(t DType, sizes ...int) func(d *drawer) int {
		return func(d *drawer) int {
			d.main, d.size = t, sizes
			for k := range sizes {
				if sizes[k] == 0 {
					sizes[k] = 1 + d.r.IntN(5)
				}
			}
			return d.tensor(t, sizes...)
		}
	}
	draw := func(t DType, n int) func(d *drawer) int {
		return func(d *drawer) int { return start(t, make([]int, n)...)(d) }
	}
	hints["llama::update_cache_with_indices.out"] = hint{"value": value, "cache": keys(4), "start_pos": three,
		"indices": at(I64, func(d *drawer) []int { return d.size[:2] }), "out": placeholder}
	hints["aten::_fft_r2c.out"] = hint{"self": draw(F32, 2), "dim": list(1, 0, 1), "normalization": three, "onesided": boolean(true), "out": out(C64, 2)}
	hints["aten::_fft_c2r.out"] = hint{"self": draw(C64, 2), "dim": list(1, 0, 1), "normalization": three, "last_dim_size": number(func(d *drawer) int { return 1 + d.r.IntN(4) }), "out": out(F32, 2)}
	// The outputs of a split are known with its arguments.
	hints["aten::split_copy.Tensor_out"] = hint{"self": func(d *drawer) int { return start(F32, 4, 0)(d) }, "split_size": number(func(*drawer) int { return 2 }),
		"dim": number(func(*drawer) int { return 0 }), "out": func(d *drawer) int { return d.b.add(pte.TensorList{out(F32, 2)(d), out(F32, 2)(d)}) }}
	quant := hint{"input": draw(F32, 2), "scale_out": out(F64, 1), "zero_point_out": out(I64, 1), "quant_min": number(func(*drawer) int { return -128 }),
		"quant_max": number(func(*drawer) int { return 127 })}
	hints["quantized_decomposed::choose_qparams.Tensor_out"] = quant
	hints["quantized_decomposed::choose_qparams_per_token_asymmetric.out"] = hint{"input": draw(F32, 2), "scale_out": out(F64, 2), "zero_point_out": out(I64, 2)}
	rows := hint{"weight": draw(U8, 2), "weight_scales": at(F32, func(d *drawer) []int { return d.size[:1] }), "weight_zero_points": none,
		"indices": at(I64, func(d *drawer) []int { return []int{2} })}
	for _, n := range []string{"2bit.out", "2bit.dtype_out", "4bit.out", "4bit.dtype_out"} {
		hints["quantized_decomposed::embedding_"+n] = rows
	}
	hints["quantized_decomposed::mixed_mm.out"] = hint{"input": draw(F32, 2), "weight": at(I8, func(d *drawer) []int { return []int{d.size[1], 3} }),
		"weight_scales": at(F32, func(d *drawer) []int { return d.size[1:] }), "weight_zero_points": none}
	hints["quantized_decomposed::mixed_linear.out"] = hint{"input": draw(F32, 2), "weight": at(I8, func(d *drawer) []int { return []int{3, d.size[1]} }),
		"weight_scales": at(F32, func(d *drawer) []int { return []int{3} }), "weight_zero_points": none}
	hints["aten::max_pool2d_with_indices_backward.grad_input"] = hint{"grad_output": func(d *drawer) int { return start(F32, 0, 0, 2, 3)(d) },
		"self": at(F32, func(d *drawer) []int { return []int{d.size[0], d.size[1], 4, 6} }), "kernel_size": list(2, 2), "stride": list(2, 2), "padding": list(2, 0),
		"dilation": list(2, 1), "ceil_mode": boolean(false), "indices": at(I64, func(d *drawer) []int { return d.size })}
	hints["aten::convolution_backward.out"] = hint{"grad_output": func(d *drawer) int { return start(F32, 0, 3, 4, 5)(d) },
		"input": at(F32, func(d *drawer) []int { return []int{d.size[0], 2, 5, 6} }), "weight": at(F32, func(d *drawer) []int { return []int{3, 2, 2, 2} }), "bias_sizes": none,
		"stride": list(2, 1), "padding": list(2, 0), "dilation": list(2, 1), "transposed": boolean(false), "output_padding": list(2, 0), "groups": number(func(*drawer) int { return 1 })}
	constant := func(n int) func(d *drawer) int { return number(func(*drawer) int { return n }) }
	sized := func(t DType, sizes ...int) func(d *drawer) int {
		return at(t, func(*drawer) []int { return sizes })
	}
	hints["llama::quantized_moe_ffn.out"] = hint{"x": func(d *drawer) int { return start(F32, 0, 16)(d) }, "gate_weight": sized(F32, 3, 16), "expert_bias": sized(F32, 3),
		"packed_w13": sized(U8, 3, 64+32*24), "packed_w2": sized(U8, 3, 64+16*24), "num_activated_experts": number(func(d *drawer) int { return 1 + d.r.IntN(4) }),
		"num_experts": constant(3), "hidden_dim": constant(16), "dim": constant(16), "group_size": constant(16), "weight_nbit": constant(8),
		"score_func": func(d *drawer) int { return d.b.add(pte.StringValue("sigmoid")) }, "out": out(F32, 2)}
	for _, n := range []string{"llama::gated_delta_rule.out", "llama::channelwise_gated_delta_rule.out"} {
		hints[n] = hint{"query": func(d *drawer) int {
			v := start(F32, 0, 4, 0, 0)(d)
			d.size = []int{d.size[0], 2, d.size[2], d.size[3]}
			return v
		}, "key": at(F32, func(d *drawer) []int { return d.size }), "value": at(F32, func(d *drawer) []int { return []int{d.size[0], 2, d.size[2], 3} }),
			"decay": at(F32, func(d *drawer) []int { return d.size[:3+d.r.IntN(2)] }), "beta": at(F32, func(d *drawer) []int { return d.size[:3] }),
			"initial_state": at(F32, func(d *drawer) []int { return []int{d.size[0], 2, d.size[3], 3} })}
	}
}

// out adds an output of any size.
func out(t DType, rank int) func(d *drawer) int {
	return func(d *drawer) int {
		v := d.b.dynamic(t, pte.DynamicUnbound, make([]int, rank)...)
		d.b.plan.Values[v].(*pte.Tensor).Alloc = nil
		d.b.output(v)
		return v
	}
}

// keys0 draws keys that need no query.
func keys0(heads func(d *drawer) int) func(d *drawer) int {
	return func(d *drawer) int {
		heads(d)
		d.ins, d.b = nil, newBuilder()
		return d.tensor(d.main, d.size[0], d.size[1], 2, d.size[3])
	}
}
