// The products of AMX's tile registers by AVX-512 with VNNI, for processors that have the latter alone: with the bits of tiles.h,
// and fast enough to run models. scripts/check_amx.sh compiles the kernels with it.
#pragma once

#include <immintrin.h>

#include "tile_registers.h"

#define VECTOR_TILES \
  static __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512vnni,avx2,fma"), noinline))

// The lanes of a register's rows.
VECTOR_TILES __mmask16 vector_tile_lanes(int tile) {
  return (__mmask16)((1u << (tiles.row_bytes[tile] / 4)) - 1);
}

VECTOR_TILES void vector_tile_dpbf16ps(int sums, int left, int right) {
  require_product(sums, left, right);
  // Denormal numbers are read and written as zero, and sums rounded to nearest, whatever the thread's settings.
  unsigned settings = _mm_getcsr();
  _mm_setcsr((settings & ~0x6000u) | 0x8040);
  int pairs = tiles.row_bytes[left] / 4;
  __m512i upper = _mm512_set1_epi32((int)0xffff0000);
  for (int r = 0; r < tiles.rows[sums]; r++) {
    __m512 first = _mm512_setzero_ps(), second = _mm512_setzero_ps();
    for (int k = 0; k < pairs; k++) {
      __m512i b = _mm512_load_si512(tiles.data[right][k]);
      uint32_t pair;
      memcpy(&pair, tiles.data[left][r] + 4 * k, 4);
      first = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_set1_epi32((int)(pair << 16))),
                              _mm512_castsi512_ps(_mm512_slli_epi32(b, 16)), first);
      second = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_set1_epi32((int)(pair & 0xffff0000))),
                               _mm512_castsi512_ps(_mm512_and_si512(b, upper)), second);
    }
    __m512 sum = _mm512_add_ps(_mm512_add_ps(first, second), _mm512_load_ps(tiles.data[sums][r]));
    _mm512_mask_store_ps(tiles.data[sums][r], vector_tile_lanes(sums), sum);
  }
  _mm_setcsr(settings);
}

VECTOR_TILES void vector_tile_dpbssd(int sums, int left, int right) {
  require_product(sums, left, right);
  int groups = tiles.row_bytes[left] / 4;
  // VNNI's left bytes are unsigned: 128 is added to each, and 128 times the sum of the right bytes is subtracted.
  __m512i high = _mm512_set1_epi32((int)0x80808080), excess = _mm512_setzero_si512();
  for (int k = 0; k < groups; k++)
    excess = _mm512_dpbusd_epi32(excess, high, _mm512_load_si512(tiles.data[right][k]));
  for (int r = 0; r < tiles.rows[sums]; r++) {
    __m512i sum = _mm512_sub_epi32(_mm512_load_si512(tiles.data[sums][r]), excess);
    for (int k = 0; k < groups; k++) {
      uint32_t bytes;
      memcpy(&bytes, tiles.data[left][r] + 4 * k, 4);
      sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi32((int)(bytes ^ 0x80808080)),
                                _mm512_load_si512(tiles.data[right][k]));
    }
    _mm512_mask_store_epi32(tiles.data[sums][r], vector_tile_lanes(sums), sum);
  }
}

#undef _tile_dpbf16ps
#define _tile_dpbf16ps vector_tile_dpbf16ps
#undef _tile_dpbssd
#define _tile_dpbssd vector_tile_dpbssd
