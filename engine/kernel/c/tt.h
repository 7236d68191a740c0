// Shared by every kernel source: fixed types, SIMD intrinsics, and the few helpers that a file
// without a C library needs. Sources include this, then define the functions of kernels.gen.h.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <wasm_simd128.h>

#include "kernels.gen.h"
#include "parallel.h"

#define TT_INLINE static inline __attribute__((always_inline))
#define TT_NOINLINE __attribute__((noinline))

TT_INLINE int32_t tt_min32(int32_t a, int32_t b) { return a < b ? a : b; }
TT_INLINE int32_t tt_max32(int32_t a, int32_t b) { return a > b ? a : b; }

// Bulk memory operations; the compiler may also call these by itself.
void *memcpy(void *restrict dst, const void *restrict src, size_t n);
void *memmove(void *dst, const void *src, size_t n);
void *memset(void *dst, int value, size_t n);
