// Compares the instructions that products of quantised rows can be made of, on one thread of a processor with AVX-512, VNNI
// and BF16: billions of multiplications and additions a second, with weights and broadcast activations from the first-level
// cache and 12 rows of sums in registers, as Products/integer.inc has them. Best of interleaved rounds.
//
//     clang -O3 -march=native scripts/bench/dot_instructions.c -o /tmp/dot_instructions && /tmp/dot_instructions
//
// Two signed 13-bit numbers are multiplied by one vpdpwssd for two columns, or, as two bytes for the activation and one for
// the weight, by two vpdpbusd for four columns; bf16 numbers by one vdpbf16ps for two columns.
#include <immintrin.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { ROWS = 12, STEPS = 32, BLOCKS = 20000, ROUNDS = 15 };
__m512i weights[2 * STEPS];
int activations[2 * STEPS][ROWS];

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// One block of 64 columns for 12 rows, BLOCKS times. TYPE is the type of sums, DOT(sum, weight, activation) one instruction.
#define DEFINE(NAME, TYPE, ZERO, STEP_COUNT, DOT, ADD)                                    \
  __attribute__((noinline)) static TYPE NAME(void) {                                      \
    TYPE total = ZERO;                                                                    \
    for (int b = 0; b < BLOCKS; b++) {                                                    \
      TYPE sums[ROWS];                                                                    \
      for (int r = 0; r < ROWS; r++) sums[r] = ZERO;                                      \
      _Pragma("clang loop unroll(disable)") for (int i = 0; i < STEP_COUNT; i++) {        \
        const __m512i w = weights[i];                                                     \
        _Pragma("clang loop unroll(full)") for (int r = 0; r < ROWS; r++) sums[r] = DOT;  \
      }                                                                                   \
      for (int r = 0; r < ROWS; r++) total = ADD(total, sums[r]);                         \
      __asm__ volatile("" : : : "memory");                                                \
    }                                                                                     \
    return total;                                                                         \
  }
#define ACTIVATION(i) _mm512_set1_epi32(activations[i][r])
DEFINE(words, __m512i, _mm512_setzero_si512(), STEPS, _mm512_dpwssd_epi32(sums[r], w, ACTIVATION(i)), _mm512_add_epi32)
DEFINE(bytes, __m512i, _mm512_setzero_si512(), STEPS / 2, _mm512_dpbusd_epi32(sums[r], ACTIVATION(i), w), _mm512_add_epi32)
DEFINE(byte_pairs, __m512i, _mm512_setzero_si512(), STEPS / 2,
       _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(sums[r], ACTIVATION(i), w), ACTIVATION(i + STEPS), w), _mm512_add_epi32)
DEFINE(bf16, __m512, _mm512_setzero_ps(), STEPS,
       _mm512_dpbf16_ps(sums[r], (__m512bh)w, (__m512bh)ACTIVATION(i)), _mm512_add_ps)
DEFINE(floats, __m512, _mm512_setzero_ps(), 2 * STEPS,
       _mm512_fmadd_ps((__m512)w, (__m512)ACTIVATION(i), sums[r]), _mm512_add_ps)

int main(void) {
  const char *names[] = {"vpdpwssd", "vpdpbusd, one term", "vpdpbusd, two terms", "vdpbf16ps", "vfmadd231ps"};
  double best[5] = {0};
  volatile int sink = 0;
  for (int round = 0; round < ROUNDS; round++) {
    for (int kind = 0; kind < 5; kind++) {
      const double start = now();
      switch (kind) {
        case 0: sink += _mm512_cvtsi512_si32(words()); break;
        case 1: sink += _mm512_cvtsi512_si32(bytes()); break;
        case 2: sink += _mm512_cvtsi512_si32(byte_pairs()); break;
        case 3: sink += (int)_mm512_cvtss_f32(bf16()); break;
        case 4: sink += (int)_mm512_cvtss_f32(floats()); break;
      }
      const double speed = 2e-9 * BLOCKS * ROWS * 64 * 16 / (now() - start);
      if (speed > best[kind]) best[kind] = speed;
    }
  }
  for (int kind = 0; kind < 5; kind++) printf("%-20s %6.0f Gop/s\n", names[kind], best[kind]);
}
