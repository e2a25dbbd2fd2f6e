// AVX2, FMA and F16C: a vector of 16 lanes is two registers.
#include "CKernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,bmi2"))), apply_to = function)

#include "../Common/vector.inc"

enum { FLOAT_ROWS = 6, INTEGER_ROWS = 6, ATTENTION_QUERIES = 3, MULTIPLY_ROWS = 6 };

INLINE vec join(__m256 low, __m256 high) {
  union {
    __m256 halves[2];
    vec whole;
  } u = {{low, high}};
  return u.whole;
}

// MARK: NF4 codes to floats

// A chunk: lanes 0 to 7, and 8 to 15. Each lane's 32 bits are its eight codes.
typedef struct {
  __m256i low, high;
} codes16;

INLINE codes16 load_codes(const uint8_t *chunk) {
  return (codes16){_mm256_loadu_si256((const __m256i *)chunk), _mm256_loadu_si256((const __m256i *)(chunk + 32))};
}

// Looks the lowest three bits of a code up among the eight negative and among the eight positive values. The code's high
// bit, shifted to where the sign of a float is, selects one of the two.
INLINE __m256 look_up(__m256i codes, int shift) {
  __m256i index = _mm256_srli_epi32(codes, shift);
  __m256 negative = _mm256_permutevar8x32_ps(_mm256_loadu_ps(graft_nf4_values), index);
  __m256 positive = _mm256_permutevar8x32_ps(_mm256_loadu_ps(graft_nf4_values + 8), index);
  return _mm256_blendv_ps(negative, positive, _mm256_castsi256_ps(_mm256_slli_epi32(codes, 28 - shift)));
}

INLINE vec decode_column(codes16 codes, int column) {
  int shift = column < 4 ? column * 8 : (column - 4) * 8 + 4;
  return join(look_up(codes.low, shift), look_up(codes.high, shift));
}

// MARK: integers

typedef __m256i ivec;
enum { SUM_REGISTERS = 2 };

INLINE ivec ivec_zero(void) { return _mm256_setzero_si256(); }
INLINE ivec ivec_dot(ivec sums, ivec a, ivec b) { return _mm256_add_epi32(sums, _mm256_madd_epi16(a, b)); }
INLINE ivec ivec_splat(const int16_t *pair) {
  int bits;
  __builtin_memcpy(&bits, pair, 4);
  return _mm256_set1_epi32(bits);
}

INLINE vec sums_to_floats(const ivec *sums) { return join(_mm256_cvtepi32_ps(sums[0]), _mm256_cvtepi32_ps(sums[1])); }

INLINE ivec widen_pair(const int8_t *bytes, int k) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(bytes + 16 * k)));
}

// MARK: NF4 codes to integers. A byte shuffle looks up the low and the high byte of a 16-bit value.

typedef struct {
  __m256i low, high;
} byte_pair;

// The low and the high bytes of the 16 values, twice each, since a shuffle looks up within 16 bytes.
INLINE byte_pair value_bytes(void) {
  const __m256i values = _mm256_loadu_si256((const __m256i *)graft_nf4_integers);
  const __m256i separated = _mm256_shuffle_epi8(
      values, _mm256_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15,  //
                               0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15));
  return (byte_pair){_mm256_permute4x64_epi64(separated, 0x88), _mm256_permute4x64_epi64(separated, 0xDD)};
}

// The low and the high bytes of the values of each byte's low or high code.
INLINE byte_pair look_up_bytes(byte_pair table, __m256i codes, int high_codes) {
  __m256i index = _mm256_and_si256(high_codes ? _mm256_srli_epi16(codes, 4) : codes, _mm256_set1_epi8(15));
  return (byte_pair){_mm256_shuffle_epi8(table.low, index), _mm256_shuffle_epi8(table.high, index)};
}

INLINE void decode_pairs(const uint8_t *chunk, int k, ivec *pairs) {
  // Swaps the middle two of each lane's four bytes, so that even bytes hold one pair of columns, and odd bytes the other.
  const __m256i swap = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15));
  const __m256i codes = _mm256_shuffle_epi8(_mm256_loadu_si256((const __m256i *)(chunk + 32 * k)), swap);
  const __m256i low_byte = _mm256_set1_epi16(255);
  const byte_pair table = value_bytes();
  for (int high = 0; high < 2; high++) {
    byte_pair w = look_up_bytes(table, codes, high);
    pairs[2 * high] = _mm256_or_si256(_mm256_and_si256(w.low, low_byte), _mm256_slli_epi16(w.high, 8));
    pairs[2 * high + 1] = _mm256_or_si256(_mm256_srli_epi16(w.low, 8), _mm256_andnot_si256(low_byte, w.high));
  }
}

// A lane's four columns stay side by side in 64 bits, which takes fewer instructions than sorting them into pairs. Their two
// sums are added at the end of the block.
enum { DIRECT_REGISTERS = 4 };

INLINE void direct_chunk(const uint8_t *chunk, const int16_t *q, size_t ldq, ivec (*sums)[DIRECT_REGISTERS],
                         const int rows) {
  const byte_pair table = value_bytes();
#pragma unroll
  for (int k = 0; k < 2; k++) {
    const __m256i codes = _mm256_loadu_si256((const __m256i *)(chunk + 32 * k));
#pragma unroll
    for (int high = 0; high < 2; high++) {
      const byte_pair w = look_up_bytes(table, codes, high);
      const __m256i first = _mm256_unpacklo_epi8(w.low, w.high), second = _mm256_unpackhi_epi8(w.low, w.high);
#pragma unroll
      for (int r = 0; r < rows; r++) {
        long long bits;
        __builtin_memcpy(&bits, q + r * ldq + 4 * high, 8);
        const __m256i x = _mm256_set1_epi64x(bits);
        sums[r][2 * k] = ivec_dot(sums[r][2 * k], first, x);
        sums[r][2 * k + 1] = ivec_dot(sums[r][2 * k + 1], second, x);
      }
    }
  }
}

INLINE vec direct_sums_to_floats(const ivec *sums) {
  return join(_mm256_cvtepi32_ps(_mm256_hadd_epi32(sums[0], sums[1])),
              _mm256_cvtepi32_ps(_mm256_hadd_epi32(sums[2], sums[3])));
}

#include "vector_kernels.inc"

const graft_kernels graft_avx2_kernels = KERNEL_TABLE("avx2");
#pragma clang attribute pop
#endif
