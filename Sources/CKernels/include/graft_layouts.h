// How matrices, activations and caches are stored. Included by CKernels.h.
#pragma once

#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

/// Rows of a weight matrix that lie side by side in a tile, one in each vector lane. Such rows are a group.
#define GRAFT_LANES 16
/// Positions in one block of the key-value cache.
#define GRAFT_KV_BLOCK 32

/// A weight matrix [outputs, columns] in groups of 16 rows. A number of outputs that is no multiple of 16 is padded.
///
/// NF4: `data` is [group][columns / 8] chunks of 64 bytes. In a chunk, byte 4 * lane + j holds the code of column j in its
/// low four bits and the code of column 4 + j in its high four bits. `scale` is absmax, [group][columns / block][16].
/// Int8: `data` is [group][columns / 2][16][2] signed bytes; a weight is byte * scale. `scale` is null.
/// Dense: `data` is [group][columns][16] floats; `scale` and `half_scale` are null.
///
/// Integer products read the scales in f16: half_scale * half_unit.
typedef struct {
  const void *data;
  const float *_Nullable scale;
  const uint16_t *_Nullable half_scale;  // f16 bits, shaped like `scale`; null where no integer product reads the matrix
  float half_unit;                       // a power of two
  size_t columns;                        // for NF4 and int8 a multiple of 8 and of `block`
  size_t block;  // columns that share a scale: 8, 16, 32 or 64; of a dense matrix, columns of a partial sum, even
} graft_matrix;

/// Rows that must be quantised together so that AMX multiplies them on tile registers. By estimate, eight are faster there
/// than with VNNI if some of the work overlaps (docs/decisions/amx.md).
#define GRAFT_BYTE_ROWS 8

/// Rows of activations: 13-bit signed integers, where value = q * scale of the row's block. The same block of all rows is
/// contiguous, so that a product reads the activations in one stream.
///
/// On AMX, if `stride` is at least GRAFT_BYTE_ROWS, q = 64 * high + low, both signed bytes. In the memory of a row's block
/// are the high bytes, [block], then the low ones, [block].
typedef struct {
  const int16_t *q;    // [columns / block][stride][block], magnitudes up to GRAFT_INTEGER_ONE
  const float *scale;  // [columns / block][stride]
  size_t columns;
  size_t block;
  size_t stride;  // rows that were quantised together
} graft_activations;

/// The factors of a LoRA module (Hu et al., 2021), y += scale * B (A x), in f32 or bf16.
///
/// A, [rank, columns], is stored in groups of 16 ranks. If the rank is no multiple of 16, the last group is narrower: it has
/// rank % 16 ranks and no padding. A group of w ranks is [column][w] in f32 and [column pair][w][2] in bf16.
/// B, [outputs, rank], lies in groups of 16 outputs: [rank][16] in f32 and [rank pair][16][2] in bf16.
/// In a pair whose second column or rank does not exist, its element is 0.
typedef struct {
  const void *a;  // followed by 64 bytes that kernels may read
  const void *b;
  size_t columns, rank;
  int is_bf16;
} graft_lora;

/// Bytes that the caller will read after a product. While the product computes a group of outputs, it loads that
/// group's bytes into the cache, a few at a time.
typedef struct {
  const char *start;       // of the first group's bytes; the next group's follow
  size_t bytes_per_group;  // a multiple of 64; prefetching past the end of the last group's bytes is harmless
  size_t group_begin, group_end;
} graft_prefetch;

/// Positions of a span. The attention of each span is summed on its own, so that several threads can compute one long
/// sequence. A multiple of GRAFT_KV_BLOCK.
#define GRAFT_SPAN 512
/// The maximum number of queries that attention computes together, and the maximum number of floats in them.
#define GRAFT_TILE_QUERIES 48
#define GRAFT_TILE_FLOATS (48 * 256)

/// How many queries attention computes together: at least one for a head size up to GRAFT_TILE_FLOATS.
static inline size_t graft_tile_queries(size_t head_size) {
  size_t fitting = GRAFT_TILE_FLOATS / head_size;
  return fitting < GRAFT_TILE_QUERIES ? fitting : GRAFT_TILE_QUERIES;
}

/// How keys and values are stored. Int8 and int16 have an f32 scale for the key, and one for the value, of each head and
/// position. Int16 numbers have magnitudes up to 4095; queries and weights are rounded to integers, too.
typedef enum { GRAFT_KV_F32 = 0, GRAFT_KV_F16 = 1, GRAFT_KV_INT8 = 2, GRAFT_KV_INT16 = 3 } graft_kv_type;

/// Keys and values of one sequence in one layer. Block i holds positions 32 i to 32 i + 31. For each key-value head it has
/// keys, [head_size][32], then values, [32][head_size]; for int8 then scales of keys, [32], and of values, [32]. Int16 has
/// the same in pairs: keys, [head_size / 2][32][2], values, [16][head_size][2], then the scales.
typedef struct {
  const void *_Nonnull const *_Nonnull blocks;
  graft_kv_type type;
  size_t head_size;        // even
  size_t heads_per_group;  // query heads to a key-value head
  float scale;             // of scores
  float soft_cap;          // scores s become soft_cap * tanh(s / soft_cap); 0 leaves them as they are
  size_t window;           // a row sees so many positions, its own the last of them; 0: all
} graft_attention;

/// A matrix of f32 values: element (i, j) is values[i * row_step + j * column_step].
typedef struct {
  const float *values;
  size_t row_step, column_step;
} graft_dense;

#pragma clang assume_nonnull end
