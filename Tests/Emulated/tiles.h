// The products of AMX's tile registers in plain C, by the arithmetic of Common/tile_semantics.h.
#pragma once

#include "CKernels/Common/tile_semantics.h"
#include "tile_registers.h"

static inline void emulated_tile_dpbf16ps(int sums, int a, int b) {
  require_product(sums, a, b);
  for (int r = 0; r < tiles.rows[sums]; r++) {
    for (int lane = 0; lane < tiles.row_bytes[sums] / 4; lane++) {
      float sum;
      memcpy(&sum, tiles.data[sums][r] + 4 * lane, 4);
      sum = tile_dot(sum, (const uint16_t *)tiles.data[a][r], (const uint16_t *)tiles.data[b][0] + 2 * lane, 32,
                     tiles.row_bytes[a] / 4);
      memcpy(tiles.data[sums][r] + 4 * lane, &sum, 4);
    }
  }
}

static inline void emulated_tile_dpbssd(int sums, int a, int b) {
  require_product(sums, a, b);
  for (int r = 0; r < tiles.rows[sums]; r++) {
    for (int lane = 0; lane < tiles.row_bytes[sums] / 4; lane++) {
      int32_t sum;
      memcpy(&sum, tiles.data[sums][r] + 4 * lane, 4);
      for (int k = 0; k < tiles.row_bytes[a]; k++)
        sum += (int8_t)tiles.data[a][r][k] * (int8_t)tiles.data[b][k / 4][4 * lane + k % 4];
      memcpy(tiles.data[sums][r] + 4 * lane, &sum, 4);
    }
  }
}

// Both vectors rounded to bf16, those of `low` first; denormal numbers become 0.
static inline emulated_ints emulated_cvtne2ps(emulated_floats high, emulated_floats low) {
  uint16_t words[32];
  emulated_ints out;
  for (int i = 0; i < 32; i++) words[i] = bf16_from_float(flush_denormal(i < 16 ? low[i] : high[i - 16]));
  memcpy(&out, words, 64);
  return out;
}
#undef _mm512_cvtne2ps_pbh
#define _mm512_cvtne2ps_pbh(high, low) emulated_cvtne2ps(high, low)

#undef _tile_dpbf16ps
#define _tile_dpbf16ps emulated_tile_dpbf16ps
#undef _tile_dpbssd
#define _tile_dpbssd emulated_tile_dpbssd
