// Moving elements without changing them: strided copies, rows gathered and scattered by index.
#include "tt.h"

#define COPY_RANK 8
#define COPY_TILE 16

struct copy_args {
  char *dst;
  const char *src;
  int32_t size;  // bytes an element
  int32_t rank;  // dims below, without those of length 1; at least 2
  int32_t dims[COPY_RANK];
  int32_t d[COPY_RANK], s[COPY_RANK];  // strides in bytes
  int32_t turn;                        // the dim in which the source is contiguous when the last one is not, else -1
  int32_t units;
};

#define COPY_RUN(T)                                                          \
  for (int32_t i = 0; i < n; i++, d += ds, s += ss) *(T *)d = *(const T *)s; \
  break;

// copy_bytes: a run that does not overlap its target. Short ones stay here: memory.copy is a call into
// the engine, worth it from a few cache lines on.
TT_INLINE void copy_bytes(char *d, const char *s, int32_t n) {
  if (n > 256) {
    memcpy(d, s, (size_t)n);
    return;
  }
  int32_t i = 0;
  for (; i + 16 <= n; i += 16) {
    wasm_v128_store(d + i, wasm_v128_load(s + i));
  }
  for (; i + 4 <= n; i += 4) {
    wasm_v128_store32_lane(d + i, wasm_v128_load32_zero(s + i), 0);
  }
  for (; i < n; i++) {
    d[i] = s[i];
  }
}

// copy_run moves n elements with the given strides in bytes.
TT_INLINE void copy_run(char *d, int32_t ds, const char *s, int32_t ss, int32_t size, int32_t n) {
  if (ds == size && ss == size) {
    copy_bytes(d, s, n * size);
    return;
  }
  switch (size) {
    case 1:
      COPY_RUN(uint8_t)
    case 2:
      COPY_RUN(uint16_t)
    case 4:
      COPY_RUN(uint32_t)
    default:
      COPY_RUN(uint64_t)
  }
}

// A unit is one index of the dims before the last two, times a strip of the dim before the last
// (COPY_TILE indices); within it, when the source turns, square tiles keep both sides in cache.
static void copy_body(const void *args, int32_t begin, int32_t end) {
  const struct copy_args *c = args;
  int32_t last = c->rank - 1, mid = c->rank - 2;
  int32_t strips = (c->dims[mid] + COPY_TILE - 1) / COPY_TILE;
  for (int32_t u = begin; u < end; u++) {
    int32_t rest = u / strips, strip = u - rest * strips;
    char *d = c->dst;
    const char *s = c->src;
    for (int32_t k = mid - 1; k >= 0; k--) {
      int32_t next = rest / c->dims[k], at = rest - next * c->dims[k];
      d += (uint32_t)at * (uint32_t)c->d[k];
      s += (uint32_t)at * (uint32_t)c->s[k];
      rest = next;
    }
    int32_t from = strip * COPY_TILE, to = tt_min32(from + COPY_TILE, c->dims[mid]);
    d += (uint32_t)from * (uint32_t)c->d[mid];
    s += (uint32_t)from * (uint32_t)c->s[mid];
    if (c->turn != mid) {
      for (int32_t r = from; r < to; r++, d += c->d[mid], s += c->s[mid]) {
        copy_run(d, c->d[last], s, c->s[last], c->size, c->dims[last]);
      }
      continue;
    }
    for (int32_t j = 0; j < c->dims[last]; j += COPY_TILE) {
      int32_t n = tt_min32(COPY_TILE, c->dims[last] - j);
      char *dt = d + (uint32_t)j * (uint32_t)c->d[last];
      const char *st = s + (uint32_t)j * (uint32_t)c->s[last];
      for (int32_t r = from; r < to; r++, dt += c->d[mid], st += c->s[mid]) {
        copy_run(dt, c->d[last], st, c->s[last], c->size, n);
      }
    }
  }
}

// copy_nd copies a tensor of elements of 1, 2, 4 or 8 bytes with any strides on both sides; dst and
// src must not overlap. The descriptor is i32[24] in device memory: word 0 the rank (1..8), then from word 8
// on eight dims, eight strides of dst, eight strides of src, in elements, of which the first `rank` count.
// A stride of 0 on the source repeats (expand); strides may be negative (flip).
void copy_nd(int32_t size, void *dst, void *src, void *desc) {
  const int32_t *w = desc;
  int32_t rank = w[0];
  if (rank < 1 || rank > COPY_RANK) {
    return;
  }
  struct copy_args c = {.dst = dst, .src = src, .size = size, .turn = -1};
  // Drop dims of length 1, join neighbours that both sides lay out as one, then pad to two dims.
  int32_t dims[COPY_RANK], ds[COPY_RANK], ss[COPY_RANK], k = 0;
  for (int32_t i = 0; i < rank; i++) {
    int32_t n = w[8 + i], d = w[16 + i] * size, s = w[24 + i] * size;
    if (n <= 0) {
      return;
    }
    if (n == 1) {
      continue;
    }
    if (k > 0 && ds[k - 1] == d * n && ss[k - 1] == s * n) {
      dims[k - 1] *= n;
      ds[k - 1] = d;
      ss[k - 1] = s;
      continue;
    }
    dims[k] = n;
    ds[k] = d;
    ss[k] = s;
    k++;
  }
  int32_t pad = k < 2 ? 2 - k : 0;
  c.rank = k + pad;
  for (int32_t i = 0; i < c.rank; i++) {
    c.dims[i] = i < pad ? 1 : dims[i - pad];
    c.d[i] = i < pad ? 0 : ds[i - pad];
    c.s[i] = i < pad ? 0 : ss[i - pad];
  }
  if (k == 0) {  // a single element: the padding has length 1 and the strides do not matter
    c.d[1] = c.s[1] = size;
  }
  int32_t last = c.rank - 1, mid = c.rank - 2;
  if (c.s[last] != size) {
    // Where the source is contiguous in another dim, make that one the second last, so that tiles
    // read whole cache lines. The order of the loops does not matter to a copy.
    for (int32_t i = mid; i >= 0; i--) {
      if (c.s[i] == size && c.dims[i] > 1) {
        for (int32_t t = i; t < mid; t++) {
          int32_t a = c.dims[t], b = c.d[t], e = c.s[t];
          c.dims[t] = c.dims[t + 1], c.d[t] = c.d[t + 1], c.s[t] = c.s[t + 1];
          c.dims[t + 1] = a, c.d[t + 1] = b, c.s[t + 1] = e;
        }
        c.turn = mid;
        break;
      }
    }
  }
  int32_t units = (c.dims[mid] + COPY_TILE - 1) / COPY_TILE;
  int32_t strip = tt_min32(c.dims[mid], COPY_TILE) * c.dims[last];
  for (int32_t i = 0; i < mid; i++) {
    units *= c.dims[i];
  }
  parallel_for(copy_body, &c, units, tt_max32(1, 16384 / tt_max32(1, strip)));
}

struct rows_args {
  char *dst;
  const char *src;
  const int64_t *index;
  int32_t n, bytes, dst_row, src_row, limit;
};

static void copy_rows_body(const void *args, int32_t begin, int32_t end) {
  const struct rows_args *c = args;
  for (int32_t r = begin; r < end; r++) {
    copy_bytes(c->dst + (uint32_t)r * (uint32_t)c->dst_row, c->src + (uint32_t)r * (uint32_t)c->src_row, c->bytes);
  }
}

static int32_t row_grain(int32_t bytes) { return tt_max32(1, 65536 / tt_max32(1, bytes)); }

// copy_rows copies n rows of `bytes` bytes; row r starts at r times the row strides (in bytes).
void copy_rows(void *dst, int32_t dst_row, void *src, int32_t src_row, int32_t bytes, int32_t n) {
  if (bytes <= 0) {
    return;
  }
  struct rows_args c = {.dst = dst, .src = src, .n = n, .bytes = bytes, .dst_row = dst_row, .src_row = src_row};
  parallel_for(copy_rows_body, &c, n, row_grain(bytes));
}

static void gather_body(const void *args, int32_t begin, int32_t end) {
  const struct rows_args *c = args;
  for (int32_t r = begin; r < end; r++) {
    char *d = c->dst + (uint32_t)r * (uint32_t)c->dst_row;
    int64_t k = c->index[r];
    if (k < 0 || k >= c->limit) {
      memset(d, 0, (size_t)c->bytes);
      continue;
    }
    copy_bytes(d, c->src + (uint32_t)k * (uint32_t)c->src_row, c->bytes);
  }
}

// gather_rows: dst row r = src row index[r] (i64[n]), rows of `bytes` bytes, strides in bytes. An
// index outside [0, limit) gives a row of zeros; index_check finds such an index first.
void gather_rows(void *dst, int32_t dst_row, void *src, int32_t src_row, void *index, int32_t n, int32_t bytes,
                 int32_t limit) {
  struct rows_args c = {dst, src, index, n, bytes, dst_row, src_row, limit};
  if (bytes > 0) {
    parallel_for(gather_body, &c, n, row_grain(bytes));
  }
}

#define SCATTER_STRIP 256

// Threads take strips of columns, so that of rows written twice the last wins for any thread count.
static void scatter_body(const void *args, int32_t begin, int32_t end) {
  const struct rows_args *c = args;
  int32_t from = begin * SCATTER_STRIP, to = tt_min32(end * SCATTER_STRIP, c->bytes);
  for (int32_t r = 0; r < c->n; r++) {
    int64_t k = c->index[r];
    if (k >= 0 && k < c->limit) {
      copy_bytes(c->dst + (uint32_t)k * (uint32_t)c->dst_row + from, c->src + (uint32_t)r * (uint32_t)c->src_row + from,
                 to - from);
    }
  }
}

// scatter_rows: dst row index[r] = src row r; an index outside [0, limit) is passed over.
void scatter_rows(void *dst, int32_t dst_row, void *src, int32_t src_row, void *index, int32_t n, int32_t bytes,
                  int32_t limit) {
  struct rows_args c = {dst, src, index, n, bytes, dst_row, src_row, limit};
  if (bytes > 0) {
    parallel_for(scatter_body, &c, (bytes + SCATTER_STRIP - 1) / SCATTER_STRIP, 4);
  }
}

// index_check returns the position of the first of n indices (i64) outside [0, limit), or -1.
int32_t index_check(void *index, int32_t n, int64_t limit) {
  const int64_t *k = index;
  for (int32_t i = 0; i < n; i++) {
    if (k[i] < 0 || k[i] >= limit) {
      return i;
    }
  }
  return -1;
}
