// Conversions between element types, fills and ranges.
#include "elements.h"
#include "math.h"
#include "ops.h"

// half_to_float and float_to_half are free of branches so that loops over them vectorise.
TT_INLINE float bits_float(uint32_t b) {
  union {
    uint32_t b;
    float f;
  } u = {b};
  return u.f;
}

TT_INLINE uint32_t float_bits(float f) {
  union {
    float f;
    uint32_t b;
  } u = {f};
  return u.b;
}

TT_INLINE float half_to_float(uint16_t h) {
  uint32_t magnitude = (uint32_t)(h & 0x7fff) << 13;
  uint32_t sign = (uint32_t)(h & 0x8000) << 16;
  uint32_t exponent = magnitude & 0x0f800000;
  uint32_t normal = magnitude + (112u << 23);
  uint32_t special = magnitude + (224u << 23);  // inf and NaN
  uint32_t denormal = float_bits(bits_float(magnitude + (113u << 23)) - bits_float(113u << 23));
  uint32_t b = exponent == 0x0f800000 ? special : normal;
  b = exponent == 0 ? denormal : b;
  return bits_float(b | sign);
}

// float_to_half rounds to nearest even; past 65504 + half a step it gives infinity.
TT_INLINE uint16_t float_to_half(float f) {
  uint32_t b = float_bits(f);
  uint32_t sign = (b >> 16) & 0x8000, a = b & 0x7fffffff;
  // Adding 0.5 lines the denormal's last bit up with the float's last bit, which rounds it.
  uint32_t denormal = float_bits(bits_float(a) + 0.5f) - float_bits(0.5f);
  uint32_t normal = (a - (112u << 23) + 0xfff + ((a >> 13) & 1)) >> 13;
  uint32_t h = a < 0x38800000 ? denormal : normal;
  h = a >= 0x477ff000 ? 0x7c00 : h;
  h = a > 0x7f800000 ? 0x7e00 : h;
  return (uint16_t)(h | sign);
}

TT_INLINE uint16_t float_to_bfloat(float f) {
  uint32_t b = float_bits(f);
  uint32_t r = (b + 0x7fff + ((b >> 16) & 1)) >> 16;
  return (uint16_t)((b & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : r);
}

TT_INLINE float bfloat_to_float(uint16_t b) { return bits_float((uint32_t)b << 16); }

static int32_t dtype_size(int32_t t) {
  switch (t) {
    case DTYPE_I8:
    case DTYPE_U8:
    case DTYPE_BOOL:
      return 1;
    case DTYPE_F16:
    case DTYPE_BF16:
    case DTYPE_I16:
      return 2;
    case DTYPE_F32:
    case DTYPE_I32:
      return 4;
    default:
      return 8;
  }
}

static int is_float(int32_t t) { return t == DTYPE_F32 || t == DTYPE_F16 || t == DTYPE_BF16 || t == DTYPE_F64; }

#define EACH(CASE, T, EXPR)                       \
  case CASE: {                                    \
    const T *s = src;                             \
    for (int32_t i = 0; i < n; i++) to[i] = EXPR; \
  } break;

// Every float type widens to double exactly, every integer type to int64.
static void widen_float(double *restrict to, const void *src, int32_t type, int32_t n) {
  switch (type) {
    EACH(DTYPE_F32, float, s[i])
    EACH(DTYPE_F16, uint16_t, half_to_float(s[i]))
    EACH(DTYPE_BF16, uint16_t, bfloat_to_float(s[i]))
    EACH(DTYPE_F64, double, s[i])
    default:
      break;
  }
}

static void widen_int(int64_t *restrict to, const void *src, int32_t type, int32_t n) {
  switch (type) {
    EACH(DTYPE_I8, int8_t, s[i])
    EACH(DTYPE_U8, uint8_t, s[i])
    EACH(DTYPE_I16, int16_t, s[i])
    EACH(DTYPE_I32, int32_t, s[i])
    EACH(DTYPE_I64, int64_t, s[i])
    EACH(DTYPE_BOOL, uint8_t, s[i] != 0)
    default:
      break;
  }
}

#define INTO(CASE, T, EXPR)                       \
  case CASE: {                                    \
    T *to = dst;                                  \
    for (int32_t i = 0; i < n; i++) to[i] = EXPR; \
  } break;

// With -mnontrapping-fptoint a cast of a double to int64 saturates, and NaN gives 0.
#define NARROW(NAME, T_)                                                       \
  static void NAME(void *restrict dst, const T_ *s, int32_t type, int32_t n) { \
    switch (type) {                                                            \
      INTO(DTYPE_F32, float, (float)s[i])                                      \
      INTO(DTYPE_F16, uint16_t, float_to_half((float)s[i]))                    \
      INTO(DTYPE_BF16, uint16_t, float_to_bfloat((float)s[i]))                 \
      INTO(DTYPE_F64, double, (double)s[i])                                    \
      INTO(DTYPE_I8, int8_t, (int8_t)saturate_##T_(s[i]))                      \
      INTO(DTYPE_U8, uint8_t, (uint8_t)saturate_##T_(s[i]))                    \
      INTO(DTYPE_I16, int16_t, (int16_t)saturate_##T_(s[i]))                   \
      INTO(DTYPE_I32, int32_t, (int32_t)saturate_##T_(s[i]))                   \
      INTO(DTYPE_I64, int64_t, saturate_##T_(s[i]))                            \
      INTO(DTYPE_BOOL, uint8_t, s[i] != 0)                                     \
      default:                                                                 \
        break;                                                                 \
    }                                                                          \
  }
TT_INLINE int64_t saturate_int64_t(int64_t x) { return x; }
// C leaves the cast undefined outside int64, so the bounds are spelled out.
TT_INLINE int64_t saturate_double(double x) {
  if (x != x) {
    return 0;
  }
  return x >= 9223372036854775808.0 ? INT64_MAX : x < -9223372036854775808.0 ? INT64_MIN : (int64_t)x;
}
NARROW(narrow_float, double)
NARROW(narrow_int, int64_t)

struct convert_args {
  char *dst;
  const char *src;
  int32_t to, from, n;
};

// Pairs that models use every step get a loop of their own; same results.
static int convert_direct(void *restrict dst, const void *src, int32_t to_type, int32_t from, int32_t n) {
  if (from == DTYPE_F16 && to_type == DTYPE_F32) {
    float *to = dst;
    const uint16_t *s = src;
    for (int32_t i = 0; i < n; i++) to[i] = half_to_float(s[i]);
  } else if (from == DTYPE_F32 && to_type == DTYPE_F16) {
    uint16_t *to = dst;
    const float *s = src;
    for (int32_t i = 0; i < n; i++) to[i] = float_to_half(s[i]);
  } else if (from == DTYPE_BF16 && to_type == DTYPE_F32) {
    float *to = dst;
    const uint16_t *s = src;
    for (int32_t i = 0; i < n; i++) to[i] = bfloat_to_float(s[i]);
  } else if (from == DTYPE_I8 && to_type == DTYPE_F32) {
    float *to = dst;
    const int8_t *s = src;
    for (int32_t i = 0; i < n; i++) to[i] = s[i];
  } else {
    return 0;
  }
  return 1;
}

#define CONVERT_UNIT 4096

static void convert_body(const void *args, int32_t begin, int32_t end) {
  const struct convert_args *c = args;
  int32_t ds = dtype_size(c->to), ss = dtype_size(c->from);
  int32_t stop = end > c->n / CONVERT_UNIT ? c->n : end * CONVERT_UNIT;
  union {
    double f[EW_BLOCK];
    int64_t i[EW_BLOCK];
  } wide;
  for (int32_t i = begin * CONVERT_UNIT; i < stop; i += EW_BLOCK) {
    int32_t m = tt_min32(EW_BLOCK, stop - i);
    void *d = c->dst + (uint32_t)i * (uint32_t)ds;
    const void *s = c->src + (uint32_t)i * (uint32_t)ss;
    if (convert_direct(d, s, c->to, c->from, m)) {
      continue;
    }
    if (is_float(c->from)) {
      widen_float(wide.f, s, c->from, m);
      narrow_float(d, wide.f, c->to, m);
    } else {
      widen_int(wide.i, s, c->from, m);
      narrow_int(d, wide.i, c->to, m);
    }
  }
}

// convert: n elements of type `from` at src to type `to` at dst; the two must not overlap. A float
// goes to an integer by truncation, clamped to int64 (NaN: 0) and then wrapped to the width; to f16
// and bf16 by way of f32; to bool as x != 0.
void convert(int32_t to, void *dst, int32_t from, void *src, int32_t n) {
  if (n <= 0) {
    return;
  }
  struct convert_args c = {dst, src, to, from, n};
  parallel_for(convert_body, &c, (n - 1) / CONVERT_UNIT + 1, 2);
}

struct fill_args {
  char *dst;
  int64_t value;
  int64_t bytes;
};

#define FILL_UNIT 65536

static void fill_body(const void *args, int32_t begin, int32_t end) {
  const struct fill_args *f = args;
  v128_t v = wasm_i64x2_splat(f->value);
  int64_t i = (int64_t)begin * FILL_UNIT, stop = (int64_t)end * FILL_UNIT;
  stop = stop < f->bytes ? stop : f->bytes;
  for (; i + 16 <= stop; i += 16) {
    wasm_v128_store(f->dst + i, v);
  }
  for (; i < stop; i++) {
    f->dst[i] = (char)(f->value >> (8 * (i & 7)));
  }
}

// fill: n elements of size 1, 2, 4 or 8 bytes with the low bytes of value.
void fill(int32_t size, void *dst, int64_t value, int32_t n) {
  uint64_t v = (uint64_t)value;
  v = size == 1 ? (v & 0xff) * 0x0101010101010101u : v;
  v = size == 2 ? (v & 0xffff) * 0x0001000100010001u : v;
  v = size == 4 ? (v & 0xffffffff) * 0x0000000100000001u : v;
  struct fill_args f = {dst, (int64_t)v, (int64_t)n * size};
  parallel_for(fill_body, &f, (int32_t)((f.bytes + FILL_UNIT - 1) / FILL_UNIT), 1);
}

TT_INLINE double bits_double(int64_t b) {
  union {
    int64_t b;
    double f;
  } u = {b};
  return u.f;
}

// f32_arange: start + i * step computed in double and rounded once; the arguments are the bits of
// float64 numbers.
void f32_arange(void *dst, int64_t start_bits, int64_t step_bits, int32_t n) {
  double start = bits_double(start_bits), step = bits_double(step_bits);
  float *d = dst;
  for (int32_t i = 0; i < n; i++) {
    d[i] = (float)(start + (double)i * step);
  }
}

void i64_arange(void *dst, int64_t start, int64_t step, int32_t n) {
  int64_t *d = dst;
  for (int32_t i = 0; i < n; i++) {
    d[i] = (int64_t)((uint64_t)start + (uint64_t)i * (uint64_t)step);
  }
}
