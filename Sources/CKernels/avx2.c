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

#define IV static inline __attribute__((always_inline))
typedef __m256i iv;
enum { PARTS = 2, INTEGER_ROWS = 6 };

IV iv iv_zero(void) { return _mm256_setzero_si256(); }
IV iv iv_dot(iv sum, iv a, iv b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
IV iv iv_splat(const int16_t *pair) {
  int bits;
  __builtin_memcpy(&bits, pair, 4);
  return _mm256_set1_epi32(bits);
}

// A 16-bit value is looked up as its two bytes.
typedef struct {
  __m256i low, high;
} byte_tables;

IV byte_tables code_tables(void) {
  const __m256i values = _mm256_loadu_si256((const __m256i *)graft_nf4_integers);
  const __m256i apart = _mm256_shuffle_epi8(
      values, _mm256_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15,  //
                               0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15));
  return (byte_tables){_mm256_permute4x64_epi64(apart, 0x88), _mm256_permute4x64_epi64(apart, 0xDD)};
}

// The values' low and high bytes for the codes in the low or in the high nibbles.
IV byte_tables look_up_bytes(byte_tables tables, __m256i codes, int high_nibbles) {
  __m256i index = _mm256_and_si256(high_nibbles ? _mm256_srli_epi16(codes, 4) : codes, _mm256_set1_epi8(15));
  return (byte_tables){_mm256_shuffle_epi8(tables.low, index), _mm256_shuffle_epi8(tables.high, index)};
}

// Of each lane's four bytes the middle two change places, so that even and odd bytes make a pair of neighbours each.
IV void take_codes(const uint8_t *chunk, int part, iv *pairs) {
  const __m256i swap = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15));
  const __m256i codes = _mm256_shuffle_epi8(_mm256_loadu_si256((const __m256i *)(chunk + 32 * part)), swap);
  const __m256i low_byte = _mm256_set1_epi16(255);
  const byte_tables tables = code_tables();
  for (int high = 0; high < 2; high++) {
    byte_tables w = look_up_bytes(tables, codes, high);
    pairs[2 * high] = _mm256_or_si256(_mm256_and_si256(w.low, low_byte), _mm256_slli_epi16(w.high, 8));
    pairs[2 * high + 1] = _mm256_or_si256(_mm256_srli_epi16(w.low, 8), _mm256_andnot_si256(low_byte, w.high));
  }
}

// Straight from codes to products: a lane's four columns stay side by side in 64 bits, which takes fewer instructions
// than sorting them into pairs; its two sums are added at the end of the block.
enum { DIRECT_PARTS = 4 };

IV void direct_chunk(const uint8_t *chunk, const int16_t *q, size_t ldq, iv (*sums)[DIRECT_PARTS], const int rows) {
  const byte_tables tables = code_tables();
#pragma unroll
  for (int part = 0; part < 2; part++) {
    const __m256i codes = _mm256_loadu_si256((const __m256i *)(chunk + 32 * part));
#pragma unroll
    for (int high = 0; high < 2; high++) {
      const byte_tables w = look_up_bytes(tables, codes, high);
      const __m256i front = _mm256_unpacklo_epi8(w.low, w.high), back = _mm256_unpackhi_epi8(w.low, w.high);
#pragma unroll
      for (int r = 0; r < rows; r++) {
        long long bits;
        __builtin_memcpy(&bits, q + r * ldq + 4 * high, 8);
        const __m256i x = _mm256_set1_epi64x(bits);
        sums[r][2 * part] = iv_dot(sums[r][2 * part], front, x);
        sums[r][2 * part + 1] = iv_dot(sums[r][2 * part + 1], back, x);
      }
    }
  }
}

IV iv take_bytes(const int8_t *p, int part) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(p + 16 * part)));
}

IV decoded_t to_floats(const iv *parts) {
  union {
    __m256 half[2];
    decoded_t whole;
  } u = {{_mm256_cvtepi32_ps(parts[0]), _mm256_cvtepi32_ps(parts[1])}};
  return u.whole;
}

IV decoded_t direct_floats(const iv *sums) {
  union {
    __m256 half[2];
    decoded_t whole;
  } u = {{_mm256_cvtepi32_ps(_mm256_hadd_epi32(sums[0], sums[1])),
          _mm256_cvtepi32_ps(_mm256_hadd_epi32(sums[2], sums[3]))}};
  return u.whole;
}

#define ROWS 6
#define HEADS 3
#include "vector.inc"

const graft_kernels graft_avx2_kernels = KERNELS("avx2");
#pragma clang attribute pop
#endif
