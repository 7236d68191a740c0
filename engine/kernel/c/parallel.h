// Splitting a kernel over threads.
//
// An exported kernel packs its arguments in a struct and calls parallel_for with a body that does
// units [begin, end). A unit is a row, a tile of the output, or a run of elements: never a part of
// a sum, so the result has the same bits for any number of threads and any split. The call returns
// when every unit is done. Nested calls and calls from a worker are not supported.
#pragma once

#include <stdint.h>

// The most threads that threads_set accepts; each has a stack and a scratch area in kernels.wasm.
#define TT_MAX_THREADS 32

typedef void (*parallel_body)(const void *args, int32_t begin, int32_t end);

// parallel_for runs body over units [0, units), at most `grain` units at a time when more than one
// thread is set (all at once when not). grain < 1 counts as 1; a good grain is some 20 us of work.
void parallel_for(parallel_body body, const void *args, int32_t units, int32_t grain);

// tt_scratch returns the scratch area of the calling thread: TT_SCRATCH_BYTES, aligned to 64,
// kept until the thread's next call of a kernel.
#define TT_SCRATCH_BYTES (512 * 1024)
void *tt_scratch(void);

// tt_threads returns the number of threads that parallel_for uses.
int32_t tt_threads(void);
