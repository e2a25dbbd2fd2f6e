// AMX's tile registers in memory, and what configures, loads and stores them. What makes the processor raise an exception (Intel
// Software Developer's Manual, the pages of LDTILECFG and of the tile instructions) ends the process here. The products are in
// tiles.h and vector_tiles.h.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Each thread has its own registers.
static __thread struct {
  uint16_t row_bytes[16];
  uint8_t rows[16];
  _Alignas(64) char data[8][16][64];
} tiles;

static inline void require_tiles(int holds, const char *rule) {
  if (holds) return;
  fprintf(stderr, "tile registers: %s\n", rule);
  abort();
}

// Configured registers have both a size of rows and a number of them.
static inline void require_tile(int tile) {
  require_tiles(tile >= 0 && tile < 8 && tiles.rows[tile] > 0 && tiles.row_bytes[tile] > 0, "a register is not configured");
}

// A product of `left` and `right` is added to `sums`; four bytes of a row on the left meet a row on the right.
static inline void require_product(int sums, int left, int right) {
  require_tile(sums), require_tile(left), require_tile(right);
  require_tiles(sums != left && sums != right && left != right, "two operands are one register");
  require_tiles(tiles.rows[sums] == tiles.rows[left], "the sums have not the rows of the left operand");
  require_tiles(tiles.row_bytes[sums] == tiles.row_bytes[right], "the sums have not the columns of the right operand");
  require_tiles(tiles.row_bytes[left] == 4 * tiles.rows[right], "the operands' inner sizes differ");
  require_tiles(tiles.row_bytes[sums] % 4 == 0, "the sums are no whole numbers");
}

static inline void emulated_tile_loadconfig(const void *configuration) {
  const unsigned char *bytes = configuration;
  require_tiles(bytes[0] == 1, "the palette is not 1");
  for (int i = 1; i < 16; i++) require_tiles(bytes[i] == 0, "reserved bytes are not 0");
  for (int i = 32; i < 48; i++) require_tiles(bytes[i] == 0, "reserved bytes are not 0");
  for (int i = 56; i < 64; i++) require_tiles(bytes[i] == 0, "reserved bytes are not 0");
  memcpy(tiles.row_bytes, (const char *)configuration + 16, 32);
  memcpy(tiles.rows, (const char *)configuration + 48, 16);
  memset(tiles.data, 0, sizeof tiles.data);
  for (int i = 0; i < 8; i++) {
    require_tiles(tiles.rows[i] <= 16 && tiles.row_bytes[i] <= 64, "a register is larger than 16 rows of 64 bytes");
    require_tiles((tiles.rows[i] == 0) == (tiles.row_bytes[i] == 0), "a register has rows without bytes, or bytes without rows");
  }
}

static inline void emulated_tile_release(void) { memset(&tiles, 0, sizeof tiles); }
static inline void emulated_tile_zero(int tile) {
  require_tile(tile);
  memset(tiles.data[tile], 0, sizeof tiles.data[tile]);
}

static inline void emulated_tile_loadd(int tile, const void *base, size_t stride) {
  emulated_tile_zero(tile);
  for (int r = 0; r < tiles.rows[tile]; r++)
    memcpy(tiles.data[tile][r], (const char *)base + r * stride, tiles.row_bytes[tile]);
}

static inline void emulated_tile_stored(int tile, void *base, size_t stride) {
  require_tile(tile);
  for (int r = 0; r < tiles.rows[tile]; r++)
    memcpy((char *)base + r * stride, tiles.data[tile][r], tiles.row_bytes[tile]);
}

// The compiler's headers have macros of these names.
#undef _tile_loadconfig
#define _tile_loadconfig emulated_tile_loadconfig
#undef _tile_release
#define _tile_release emulated_tile_release
#undef _tile_zero
#define _tile_zero emulated_tile_zero
#undef _tile_loadd
#define _tile_loadd emulated_tile_loadd
#undef _tile_stored
#define _tile_stored emulated_tile_stored
