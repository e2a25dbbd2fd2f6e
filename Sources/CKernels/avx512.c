// AVX-512: a vector of 16 lanes is one register, and one register holds all values of the type.
#include "CKernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c,bmi2"))), \
                             apply_to = function)

typedef __m512i decode_t;
typedef float decoded_t __attribute__((vector_size(64)));

static inline __attribute__((always_inline)) decode_t load_codes(const uint8_t *p) { return _mm512_loadu_si512(p); }

static inline __attribute__((always_inline)) decoded_t decode(decode_t codes, int column) {
  int shift = column < 4 ? column * 8 : (column - 4) * 8 + 4;
  return _mm512_permutexvar_ps(_mm512_srli_epi32(codes, shift), _mm512_loadu_ps(graft_nf4_values));
}

#define IV static inline __attribute__((always_inline))
typedef __m512i iv;
enum { PARTS = 1, INTEGER_ROWS = 12 };

IV iv iv_zero(void) { return _mm512_setzero_si512(); }
IV iv iv_add(iv a, iv b) { return _mm512_add_epi32(a, b); }
IV iv iv_madd(iv a, iv b) { return _mm512_madd_epi16(a, b); }
IV iv iv_splat(const int16_t *pair) {
  int bits;
  __builtin_memcpy(&bits, pair, 4);
  return _mm512_set1_epi32(bits);
}

// The look-up takes the low five bits of each 16; the table stands twice, so that the fifth does not matter.
IV void take_codes(const uint8_t *chunk, int part, iv *pairs) {
  (void)part;
  const __m512i codes = _mm512_loadu_si512(chunk);
  const __m512i table = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)graft_nf4_integers));
  pairs[0] = _mm512_permutexvar_epi16(codes, table);
  pairs[1] = _mm512_permutexvar_epi16(_mm512_srli_epi16(codes, 8), table);
  pairs[2] = _mm512_permutexvar_epi16(_mm512_srli_epi16(codes, 4), table);
  pairs[3] = _mm512_permutexvar_epi16(_mm512_srli_epi16(codes, 12), table);
}

IV iv take_bytes(const int8_t *p, int part) {
  (void)part;
  return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p));
}

IV decoded_t to_floats(const iv *parts) { return _mm512_cvtepi32_ps(parts[0]); }

#define ROWS 12
#define HEADS 4
#include "vector.inc"

const graft_kernels graft_avx512_kernels = KERNELS("avx512");
#pragma clang attribute pop
#endif
