// AVX2 and FMA: a vector of 16 lanes is two registers.
#include "CKernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,bmi2"))), apply_to = function)

typedef struct {
  __m256i low, high;  // lanes 0 to 7, 8 to 15; each 32 bits hold eight codes
} decode_t;

static inline __attribute__((always_inline)) decode_t load_codes(const uint8_t *p) {
  return (decode_t){_mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)(p + 32))};
}

// Two look-ups of eight values by a code's low three bits; its high bit, moved to the sign, chooses between them.
static inline __attribute__((always_inline)) __m256 look_up(__m256i codes, int shift) {
  __m256i index = _mm256_srli_epi32(codes, shift);
  __m256 negative = _mm256_permutevar8x32_ps(_mm256_loadu_ps(graft_nf4_values), index);
  __m256 positive = _mm256_permutevar8x32_ps(_mm256_loadu_ps(graft_nf4_values + 8), index);
  return _mm256_blendv_ps(negative, positive, _mm256_castsi256_ps(_mm256_slli_epi32(codes, 28 - shift)));
}

typedef float decoded_t __attribute__((vector_size(64)));
static inline __attribute__((always_inline)) decoded_t decode(decode_t codes, int column) {
  int shift = column < 4 ? column * 8 : (column - 4) * 8 + 4;
  union {
    __m256 half[2];
    decoded_t whole;
  } u = {{look_up(codes.low, shift), look_up(codes.high, shift)}};
  return u.whole;
}

#define ROWS 6
#define HEADS 3
#include "vector.inc"

const graft_kernels graft_avx2_kernels = KERNELS("avx2");
#pragma clang attribute pop
#endif
