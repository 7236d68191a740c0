// The inner loop of gemm_splat.h, in WebAssembly's own instructions: the compiler gathers the additions of one sum
// across the unrolled steps, which keeps 24 vectors alive where V8 has 15 registers for them (77 instead of 87 GOP/s),
// and a loop that is not unrolled runs its three pointers for every step (71).
#include "gemm_splat.h"

// Parameters are locals 0 to 4: a, a2, b, end and out; 5 to 12 are the sums, 13 and 14 the panel's vectors, 15 the
// activations.
#define MAC(sum, panel) \
  "local.get 15\n local.get " panel "\n i32x4.dot_i16x8_s\n local.get " sum "\n i32x4.add\n local.set " sum "\n"
#define ROW(base, offset, sum0, sum1) \
  "local.get " base "\n v128.load32_splat " offset ":p2align=0\n local.set 15\n" MAC(sum0, "13") MAC(sum1, "14")
#define STEP(low, high, row0, row1)                                                                         \
  "local.get 2\n v128.load " low ":p2align=0\n local.set 13\n local.get 2\n v128.load " high                \
  ":p2align=0\n local.set 14\n" ROW("0", row0, "5", "6") ROW("0", row1, "7", "8") ROW("1", row0, "9", "10") \
      ROW("1", row1, "11", "12")
#define ADVANCE(local, bytes) "local.get " local "\n i32.const " bytes "\n i32.add\n local.set " local "\n"
#define STORE(offset, sum) "local.get 4\n local.get " sum "\n v128.store " offset ":p2align=0\n"

// clang-format off
__asm__(".section .text.tt_splat_run,\"\",@\n"
        ".hidden tt_splat_run\n .globl tt_splat_run\n .type tt_splat_run,@function\n"
        "tt_splat_run:\n"
        ".functype tt_splat_run (i32, i32, i32, i32, i32) -> ()\n"
        ".local v128, v128, v128, v128, v128, v128, v128, v128, v128, v128, v128\n"
        "loop\n"
        STEP("0", "16", "0", "16") STEP("32", "48", "4", "20") STEP("64", "80", "8", "24") STEP("96", "112", "12", "28")
        ADVANCE("0", "32") ADVANCE("1", "32") ADVANCE("2", "128")
        "local.get 2\n local.get 3\n i32.ne\n br_if 0\n"
        "end_loop\n"
        STORE("0", "5") STORE("16", "6") STORE("32", "7") STORE("48", "8")
        STORE("64", "9") STORE("80", "10") STORE("96", "11") STORE("112", "12")
        "end_function\n");
// clang-format on
