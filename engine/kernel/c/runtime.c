// The runtime of kernels.wasm: thread pool, stacks, memory growth, bulk memory functions.
//
// Pool: one job at a time. `ticket` holds the job's number in its high half and the next unit in
// its low half, so a worker claims a chunk with one compare-and-swap, which fails when the job it
// read is over. The fields of a job are written only while no chunk of it can be claimed, hence a
// claim that succeeds proves that the fields read before it belong to that job. The caller works
// too and waits only for claimed chunks: a worker that wakes late delays nobody.
#include "tt.h"

extern unsigned char __heap_base;

void *memcpy(void *restrict dst, const void *restrict src, size_t n) {
  return __builtin_memcpy(dst, src, n);  // memory.copy
}

void *memmove(void *dst, const void *src, size_t n) { return __builtin_memmove(dst, src, n); }

void *memset(void *dst, int value, size_t n) { return __builtin_memset(dst, value, n); }

int32_t mem_pages(void) { return (int32_t)__builtin_wasm_memory_size(0); }

int32_t mem_grow(int32_t pages) { return (int32_t)__builtin_wasm_memory_grow(0, (uintptr_t)(uint32_t)pages); }

void mem_set(void *dst, int32_t value, int64_t n) { memset(dst, value, (size_t)n); }

void mem_copy(void *dst, void *src, int64_t n) { memmove(dst, src, (size_t)n); }

#ifdef TT_SINGLE

int32_t heap_base(void) { return (int32_t)(uintptr_t)&__heap_base; }

static uint8_t scratch[TT_SCRATCH_BYTES] __attribute__((aligned(64)));

void *tt_scratch(void) { return scratch; }

int32_t tt_threads(void) { return 1; }

int32_t threads_set(int32_t n) {
  (void)n;
  return 1;
}

void parallel_for(parallel_body body, const void *args, int32_t units, int32_t grain) {
  (void)grain;
  if (units > 0) {
    body(args, 0, units);
  }
}

#else

#define STACK_BYTES (64 * 1024)
#define WORKERS (TT_MAX_THREADS - 1)
// How often a thread looks again before it sleeps: about 5 us. Longer would cost other programs
// more than it saves: a wake-up takes 5 to 50 us and the calls that matter run for 100 us and more.
#define SPINS 2000
// The unit of a ticket that nobody can claim: no job has so many.
#define CLOSED INT32_MAX

static uint8_t stacks[WORKERS][STACK_BYTES] __attribute__((aligned(64)));
static uint8_t first_scratch[TT_SCRATCH_BYTES] __attribute__((aligned(64)));

static struct {
  _Atomic uint64_t ticket;
  _Atomic uint32_t job;       // the word workers wait on: low half of the job's number
  _Atomic uint32_t sleepers;  // workers in, or about to enter, a wait on `job`
  _Atomic uint32_t done;      // units finished of the current job
  _Atomic uint32_t waiting;   // the caller waits on `done`
  _Atomic uint32_t threads;   // callers of parallel_for included; workers with tid >= threads sleep
  _Atomic uint32_t stopped;
  _Atomic(parallel_body) body;
  _Atomic(const void *) args;
  _Atomic int32_t units;
  _Atomic int32_t grain;
} pool = {.threads = 1};

// thread_id tells threads apart by the stack they run on, which saves thread-local storage.
static int32_t thread_id(void) {
  uintptr_t here = (uintptr_t)__builtin_frame_address(0);
  uintptr_t first = (uintptr_t)&stacks[0][0];
  if (here < first || here > first + sizeof stacks) {
    return 0;
  }
  return 1 + (int32_t)((here - first - 1) / STACK_BYTES);
}

// The scratch areas of workers lie behind the module's data, for as many threads as there were first: half a megabyte
// each, which few machines need 31 of.
static uint32_t reserved = 1;
static uint32_t fixed;  // the heap begins where reserved says: no more threads can be had

TT_INLINE uintptr_t worker_scratch(uint32_t tid) {
  return (((uintptr_t)&__heap_base + 63) & ~(uintptr_t)63) + (tid - 1) * (uintptr_t)TT_SCRATCH_BYTES;
}

int32_t heap_base(void) {
  fixed = 1;
  return (int32_t)worker_scratch(reserved);
}

void *tt_scratch(void) {
  int32_t tid = thread_id();
  return tid == 0 ? first_scratch : (void *)worker_scratch((uint32_t)tid);
}

int32_t tt_threads(void) { return (int32_t)pool.threads; }

static void wait32(_Atomic uint32_t *p, uint32_t seen) {
  __builtin_wasm_memory_atomic_wait32((int32_t *)p, (int32_t)seen, -1);
}

static void notify(_Atomic uint32_t *p, uint32_t count) { __builtin_wasm_memory_atomic_notify((int32_t *)p, count); }

int32_t worker_stack(int32_t tid) {
  if (tid < 1 || tid > WORKERS) {
    return 0;
  }
  return (int32_t)(uintptr_t)&stacks[tid - 1][STACK_BYTES];
}

int32_t threads_set(int32_t n) {
  n = tt_max32(1, tt_min32(n, TT_MAX_THREADS));
  if (!fixed && reserved == 1 && n > 1) {
    uintptr_t pages = (worker_scratch((uint32_t)n) + 65535) / 65536, have = __builtin_wasm_memory_size(0);
    if (have < pages && __builtin_wasm_memory_grow(0, pages - have) == (uintptr_t)-1) {
      return 1;
    }
    reserved = (uint32_t)n;
  }
  n = tt_min32(n, (int32_t)reserved);
  pool.threads = (uint32_t)n;
  return n;
}

void threads_stop(void) {
  pool.threads = 1;
  pool.stopped = 1;
  pool.job += 1;
  notify(&pool.job, UINT32_MAX);
}

// work claims and runs chunks of job number `job` until none is left, and returns the units done.
static uint32_t work(uint32_t job) {
  uint32_t finished = 0;
  uint64_t ticket = pool.ticket;
  for (;;) {
    if ((uint32_t)(ticket >> 32) != job) {
      return finished;
    }
    int32_t units = pool.units;
    int32_t grain = pool.grain;
    parallel_body body = pool.body;
    const void *args = pool.args;
    int32_t begin = (int32_t)(uint32_t)ticket;
    if (begin >= units) {
      return finished;
    }
    int32_t end = grain < units - begin ? begin + grain : units;
    if (!__c11_atomic_compare_exchange_strong(&pool.ticket, &ticket, (ticket & 0xffffffff00000000u) | (uint32_t)end,
                                              __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
      continue;
    }
    body(args, begin, end);
    finished += (uint32_t)(end - begin);
    if (__c11_atomic_fetch_add(&pool.done, (uint32_t)(end - begin), __ATOMIC_SEQ_CST) + (uint32_t)(end - begin) ==
            (uint32_t)units &&
        pool.waiting) {
      notify(&pool.done, 1);
    }
    ticket = pool.ticket;
  }
}

void worker_main(int32_t tid) {
  // Job numbers start at 0 with no units, so a worker started late joins whatever runs.
  uint32_t seen = 0;
  for (;;) {
    uint32_t job = pool.job;
    for (int spin = 0; job == seen && spin < SPINS; spin++) {
      job = pool.job;
    }
    if (job == seen) {
      pool.sleepers += 1;
      wait32(&pool.job, seen);
      pool.sleepers -= 1;
      continue;
    }
    if (pool.stopped) {
      return;
    }
    seen = job;
    if ((uint32_t)tid < pool.threads) {
      work(job);
    }
  }
}

void parallel_for(parallel_body body, const void *args, int32_t units, int32_t grain) {
  if (units <= 0) {
    return;
  }
  if (grain < 1) {
    grain = 1;
  }
  if (pool.threads <= 1 || units <= grain) {
    body(args, 0, units);
    return;
  }
  uint32_t job = pool.job + 1;
  pool.ticket = (uint64_t)job << 32 | CLOSED;
  pool.body = body;
  pool.args = args;
  pool.units = units;
  pool.grain = grain;
  pool.done = 0;
  pool.waiting = 0;
  pool.ticket = (uint64_t)job << 32;
  pool.job = job;
  if (pool.sleepers) {
    notify(&pool.job, UINT32_MAX);
  }
  work(job);
  for (int spin = 0; spin < SPINS; spin++) {
    if (pool.done == (uint32_t)units) {
      return;
    }
  }
  pool.waiting = 1;
  for (;;) {
    uint32_t done = pool.done;
    if (done == (uint32_t)units) {
      return;
    }
    wait32(&pool.done, done);
  }
}

#endif
