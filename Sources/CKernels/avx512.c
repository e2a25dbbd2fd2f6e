// AVX-512: a vector of 16 lanes is one register, and one register holds all values of the type.
#include "CKernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#ifdef GRAFT_HAS_VNNI
#define TARGET "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c,bmi2"
#else
#define TARGET "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c,bmi2"
#endif
#pragma clang attribute push(__attribute__((target(TARGET))), apply_to = function)

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
#ifdef GRAFT_HAS_VNNI
IV iv iv_dot(iv sum, iv a, iv b) { return _mm512_dpwssd_epi32(sum, a, b); }
#else
IV iv iv_dot(iv sum, iv a, iv b) { return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b)); }
#endif
IV iv iv_splat(const int16_t *pair) {
  int bits;
  __builtin_memcpy(&bits, pair, 4);
  return _mm512_set1_epi32(bits);
}

// The look-up takes the low five bits of each 16; the table stands twice, so that the fifth does not matter.
IV void take_codes(const uint8_t *chunk, int part, iv *pairs) {
  (void)part;
  // Of each lane's four bytes the middle two change places, so that 16-bit halves hold neighbouring columns.
  const __m512i swap = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15));
  const __m512i codes = _mm512_shuffle_epi8(_mm512_loadu_si512(chunk), swap);
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

enum { DIRECT_PARTS = 1 };
IV void direct_chunk(const uint8_t *chunk, const int16_t *q, size_t ldq, iv (*sums)[DIRECT_PARTS], const int rows) {
  iv pairs[4];
  take_codes(chunk, 0, pairs);
#pragma unroll
  for (int r = 0; r < rows; r++)
#pragma unroll
    for (int i = 0; i < 4; i++) sums[r][0] = iv_dot(sums[r][0], pairs[i], iv_splat(q + r * ldq + 2 * i));
}

IV decoded_t direct_floats(const iv *sums) { return to_floats(sums); }

#define ROWS 12
#define HEADS 4
#include "vector.inc"

#ifdef GRAFT_HAS_VNNI
const graft_kernels graft_vnni_kernels = KERNELS("vnni");
#else
const graft_kernels graft_avx512_kernels = KERNELS("avx512");
#endif
#pragma clang attribute pop
#endif
