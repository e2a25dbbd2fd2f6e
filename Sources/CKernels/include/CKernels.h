// Innermost loops. No allocation, no threads, no globals; pointers may be unaligned unless said otherwise.
//
// Every function has one meaning, spelt out in scalar.c, and one order of operations in it: the instruction-set
// variants give the same bits as scalar.c, and a row gives the same bits alone and among others.
#pragma once

#include <stddef.h>
#include <stdint.h>

/// Rows of a weight matrix that lie side by side in a tile, one to a vector lane.
#define GRAFT_LANES 16
/// Positions in one block of the key-value cache.
#define GRAFT_KV_BLOCK 32

/// A weight matrix [outputs, columns] in groups of 16 rows.
///
/// NF4: `data` holds, for each group, columns/8 chunks of 64 bytes; byte 4*lane + j of a chunk carries the code of
/// column j in its low and of column 4 + j in its high nibble. `scale` holds [group][columns/block][16] absmax.
/// Dense: `data` holds [group][column][16] floats; `scale` is null.
/// Int8: `data` holds [group][column pair][16][2] bytes, a weight being byte * scale; `scale` is null.
/// Integer products read the scales as f16: half_scale * half_unit, the unit a power of two.
typedef struct {
  const void *data;
  const float *scale;
  const uint16_t *half_scale;  // as `scale`
  float half_unit;
  size_t columns;  // a multiple of 8 for NF4 and int8
  size_t block;    // columns that share a scale: 8, 16, 32 or 64; for dense the stretch of one partial sum, even
} graft_matrix;

/// Rows of activations rounded to 13 bits with their sign: value = q * scale of its block. A block of all rows lies
/// together, so that a product reads them in one stream.
typedef struct {
  const int16_t *q;    // [columns / block][stride][block]
  const float *scale;  // [columns / block][stride]
  size_t columns;
  size_t block;
  size_t stride;  // rows that were rounded together
} graft_activations;

/// The two factors of a LoRA module (Hu et al., 2021), y += scale * B (A x), in f32 or bf16.
///
/// `a`, [rank, columns], lies in groups of 16 ranks, the last as wide as the ranks that are left: for each group of
/// width w, f32 [column][w], bf16 [column pair][w][2]. `b`, [outputs, rank], lies in groups of 16 outputs: f32
/// [rank][16], bf16 [rank pair][16][2]. The odd one of a last pair is 0. After `a` come 64 bytes that may be read.
typedef struct {
  const void *a, *b;
  size_t columns, rank;
  int is_bf16;
} graft_lora;

/// Bytes that are wanted after a product: for each group of its outputs from `group_begin` to `group_end`, the next
/// `bytes` from `at` on, a multiple of 64 (those of the last group may end earlier).
typedef struct {
  const char *at;
  size_t bytes;
  size_t group_begin, group_end;
} graft_fetch;

/// How keys and values are kept; int8 with an f32 scale for each position's row.
typedef enum { GRAFT_KV_F32 = 0, GRAFT_KV_F16 = 1, GRAFT_KV_INT8 = 2 } graft_kv_type;

/// Keys and values of one sequence in one layer. Block i holds positions 32 i to 32 i + 31, for each key-value head
/// keys as [head_size][32] then values as [32][head_size], and for int8 then their scales, [32] of keys, [32] of values.
typedef struct {
  const void *const *blocks;
  graft_kv_type type;
  size_t head_size;        // a multiple of 2
  size_t heads_per_group;  // query heads to a key-value head
  float scale;             // 1/sqrt(head_size)
} graft_attention;

/// One instruction set's implementations.
typedef struct {
  const char *name;

  /// y[row][16 g + lane] = sum over columns of w * x[row], for groups [group_begin, group_end).
  /// x: [rows][ldx] f32; y: [rows][ldy] f32, written, not added to.
  void (*nf4_product)(const graft_matrix *w, const float *x, size_t ldx, size_t rows, float *y, size_t ldy,
                      size_t group_begin, size_t group_end);
  /// Rounds one row of `stride`, whose place in the first block is at q and scale (as in graft_activations):
  /// scale = max|x| / 4095 for each block, q = nearest(x / scale), 0 where the block is 0.
  void (*quantize)(const float *x, size_t columns, size_t block, size_t stride, int16_t *q, float *scale);
  /// nf4_product on rounded rows and code values rounded to 4095ths: each block's products are summed exactly, in
  /// integers, then added in f32 in the order of the blocks. While it computes, `fetches` brings its groups' share of
  /// other bytes into the cache: products of several rows leave the memory idle.
  void (*nf4_integer_product)(const graft_matrix *w, const graft_activations *x, size_t rows, float *y, size_t ldy,
                              size_t group_begin, size_t group_end, const graft_fetch *fetches, size_t fetch_count);
  /// The same over an int8 matrix.
  void (*int8_integer_product)(const graft_matrix *w, const graft_activations *x, size_t rows, float *y, size_t ldy,
                               size_t group_begin, size_t group_end, const graft_fetch *fetches, size_t fetch_count);
  /// y = x Wt over a dense matrix of f32.
  void (*dense_product)(const graft_matrix *w, const float *x, size_t ldx, size_t rows, float *y, size_t ldy,
                        size_t group_begin, size_t group_end);

  /// u[row][r] = sum over columns of a[r] * x[row], even and odd columns apart, then added. x: [rows][ldx];
  /// u: [rows][ldu], ldu a multiple of 16 of which the last ranks' groups are written whole.
  void (*lora_shrink)(const graft_lora *w, const float *x, size_t ldx, size_t rows, float *u, size_t ldu);
  /// y[row][16 g + lane] += scale * sum over ranks of b * u[row], even and odd ranks apart, then added; with a
  /// `magnitude`, [outputs], the factor is scale * magnitude.
  void (*lora_expand)(const graft_lora *w, const float *u, size_t ldu, size_t rows, float scale,
                      const float *magnitude, float *y, size_t ldy, size_t group_begin, size_t group_end);
  /// out[16 g + lane] = sum of the squares of a row of NF4 weights, block by block.
  void (*nf4_row_squares)(const graft_matrix *w, float *out, size_t group_begin, size_t group_end);
  /// y += scale * factor * x, n values each.
  void (*add_scaled)(float *y, const float *x, const float *factor, float scale, size_t n);

  /// For benchmarks: reads `bytes` bytes, a multiple of 256, and returns something of all of them.
  uint64_t (*read_all)(const void *data, size_t bytes);
  /// For benchmarks: multiplies and adds in registers `n` times; `integer_peak_operations` is what one time counts.
  int32_t (*integer_peak)(size_t n);
  size_t integer_peak_operations;

  /// out = x / sqrt(mean(x^2) + epsilon) * weight (Zhang and Sennrich, 2019), n values.
  void (*rms_norm)(const float *x, const float *weight, float epsilon, float *out, size_t n);
  /// Rotates the pairs (x[i], x[i + size/2]) of each head by the angle whose cosine and sine are given.
  /// x: [heads][size]; cosine, sine: [size/2].
  void (*rope)(float *x, size_t heads, size_t size, const float *cosine, const float *sine);
  /// out = gate / (1 + exp(-gate)) * up, n values; out may be gate.
  void (*swiglu)(const float *gate, const float *up, float *out, size_t n);
  /// out = exp((x - highest) * factor), n values; returns their sum, added up 1,024 at a time. out may be null.
  double (*exp_sum)(const float *x, size_t n, float highest, float factor, float *out);
  /// x += y, n values.
  void (*add)(float *x, const float *y, size_t n);

  /// Puts one position's keys and values of one head, [head_size] each, into `slot` of a block, from where the head
  /// begins in it; f16 is rounded to nearest, and to its greatest value beyond that; int8 is nearest(x / scale) with
  /// scale = max|x| / 127, 0 where that is 0.
  void (*store_kv)(const float *keys, const float *values, graft_kv_type type, size_t head_size, size_t slot,
                   void *head);
  /// One query row's heads of one key-value group over positions 0 ... length - 1, by online softmax
  /// (Milakov and Gimelshein, 2018) in the order of the blocks. query, out: [heads_per_group][head_size].
  /// `offset` is where the group's keys begin in each block, in bytes. Scales of int8 are applied to the sums over a
  /// key and to the weight of a value.
  void (*attend)(const graft_attention *a, const float *query, size_t offset, size_t length, float *out);
} graft_kernels;

typedef enum { GRAFT_SCALAR = 0, GRAFT_AVX2 = 1, GRAFT_AVX512 = 2, GRAFT_NEON = 3, GRAFT_VNNI = 4 } graft_level;

/// The implementations for an instruction set, or null where this machine or build has none.
const graft_kernels *graft_kernels_for(graft_level level);

/// Code values in integer products, and the greatest rounded activation: products of 64 columns fit 31 bits.
#define GRAFT_INTEGER_ONE 4095

/// The 16 values of the 4-bit NormalFloat type (Dettmers et al., 2023, appendix E), in f32.
extern const float graft_nf4_values[16];
/// The same times GRAFT_INTEGER_ONE, rounded to nearest.
extern const int16_t graft_nf4_integers[16];

/// Tells the processor that this thread spins, so that its sibling gets the core's units.
static inline void graft_pause(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

#include "training.h"
