// The kernels of the forward pass. Included by CKernels.h.
#pragma once

#include "graft_layouts.h"

#pragma clang assume_nonnull begin

/// One instruction set's kernels of the forward pass.
typedef struct {
  // MARK: products with the base's weights
  //
  // y = x Wt for groups group_begin ..< group_end of W: y[row][16 * group + lane] is written, not added to.
  // y: [rows][ldy].

  /// W is NF4, x is f32, [rows][ldx]. In each block of columns, the products of the first half are summed in the order of
  /// the columns, and so are those of the second; the sum of both, times the block's scale, is added to the output in the
  /// order of the blocks.
  void (*nf4_product)(const graft_matrix *w, const float *x, size_t ldx, size_t rows, float *y, size_t ldy,
                      size_t group_begin, size_t group_end);
  /// The same with a dense W, without scales.
  void (*dense_product)(const graft_matrix *w, const float *x, size_t ldx, size_t rows, float *y, size_t ldy,
                        size_t group_begin, size_t group_end);
  /// W is NF4, x is quantised rows. A block's products are summed, scaled, and added to the output in f32 in the order
  /// of the blocks. NF4's values are multiples of 1 / GRAFT_INTEGER_ONE, and a block is summed exactly, as integers.
  /// Loads `prefetches` into the cache meanwhile, because products of several rows leave the memory bus idle.
  /// `prefetches` may be null if the count is 0.
  void (*nf4_quantized_product)(const graft_matrix *w, const graft_activations *x, size_t rows, float *y, size_t ldy,
                              size_t group_begin, size_t group_end, const graft_prefetch *_Nullable prefetches,
                              size_t prefetch_count);
  /// The same with an int8 W.
  void (*int8_quantized_product)(const graft_matrix *w, const graft_activations *x, size_t rows, float *y, size_t ldy,
                               size_t group_begin, size_t group_end, const graft_prefetch *_Nullable prefetches,
                               size_t prefetch_count);
  /// Quantises one of `stride` rows for quantised products: for each block, scale = max|x| / GRAFT_INTEGER_ONE and
  /// q = nearest(x / scale); q is 0 if the block is. A block with a value that is not finite has such a scale.
  /// x: [columns]; q and scale: where graft_activations has the row's part of the first block.
  void (*quantize)(const float *x, size_t columns, size_t block, size_t stride, int16_t *q, float *scale);

  // MARK: LoRA and DoRA

  /// u = x At: even and odd columns are summed apart, then added. x: [rows][ldx]; u: [rows][ldu]. Of a row of u, values
  /// beyond the rank may be overwritten, so ldu is at least the rank rounded up to a multiple of 16.
  void (*lora_shrink)(const graft_lora *w, const float *x, size_t ldx, size_t rows, float *u, size_t ldu);
  /// y += scale * u Bt for groups group_begin ..< group_end of B: even and odd ranks are summed apart, then added. With
  /// row factors, [outputs rounded up to a multiple of 16], the scale of an output is scale * its factor.
  /// u: [rows][ldu]; y: [rows][ldy], y[row][0] being the output of B's first row.
  void (*lora_expand)(const graft_lora *w, const float *u, size_t ldu, size_t rows, float scale,
                      const float *_Nullable row_factors, float *y, size_t ldy, size_t group_begin, size_t group_end);
  /// out[16 * group + lane] = the sum of the squares of an NF4 row, added up in the order of the blocks.
  void (*nf4_row_squares)(const graft_matrix *w, float *out, size_t group_begin, size_t group_end);
  /// y += scale * factor * x, [n] each.
  void (*add_scaled)(float *y, const float *x, const float *factor, float scale, size_t n);

  // MARK: attention

  /// Stores the key and the value of one head at one position, [head_size] each, in slot 0 ..< 32 of a block. `head` is
  /// where the head begins in the block. F16 is rounded to nearest, and magnitudes beyond its maximum to that; int8 is
  /// nearest(x / scale) with scale = max|x| / 127; int16 is the same with 4095.
  void (*store_kv)(const float *keys, const float *values, graft_kv_type type, size_t head_size, size_t slot,
                   void *head);
  /// Attention of one key-value head's queries for `rows` consecutive positions of a sequence, by online softmax
  /// (Milakov and Gimelshein, 2018). The last position that a row sees is length - 1 for the first row, and one more for each
  /// later row; the first one depends on the window. Every span of
  /// GRAFT_SPAN positions is summed on its own, in the order of its blocks; then the spans' sums are added in order, from the
  /// span of the first visible position on.
  /// `offset` is the number of bytes from the start of a block to the key-value head. Int8 scales are applied to a score
  /// and to the weight of a value. With int16, queries are rounded to integers, and so are the weights of 128 positions, each
  /// times the scale of its value, by their maximum; the products are summed exactly.
  /// query: [rows][ldq] and out: [rows][ldo], in each row [heads_per_group][head_size]; length and rows are at least 1;
  /// rows is 1, or rows * heads_per_group is at most graft_tile_queries(head_size).
  void (*attend)(const graft_attention *a, const float *query, size_t ldq, size_t rows, size_t length, size_t offset,
                 float *out, size_t ldo);
  /// The part of one row's attention that belongs to positions begin ..< end: begin is a multiple of GRAFT_SPAN below
  /// length, and end the smaller of begin + GRAFT_SPAN and length. The span has a position that the row sees.
  /// partials: [heads_per_group][head_size + 2], written: weighted values, maximum score, sum of weights.
  void (*attend_span)(const graft_attention *a, const float *query, size_t length, size_t offset, size_t begin,
                      size_t end, float *partials);
  /// Adds one row's spans in order, which gives the bits of `attend`.
  /// partials: [spans][heads_per_group][head_size + 2], overwritten; out: [heads_per_group][head_size].
  void (*join_spans)(const graft_attention *a, float *partials, size_t spans, float *out);

  // MARK: elementwise

  /// out = x / sqrt(mean(x^2) + epsilon) * weight, [n] each (Zhang and Sennrich, 2019). out may be x.
  void (*rms_norm)(const float *x, const float *weight, float epsilon, float *out, size_t n);
  /// Rotates the pairs (x[i], x[i + size / 2]) of each head, in place, by the angle with the given cosine and sine.
  /// x: [heads][size], size even; cosine, sine: [size / 2].
  void (*rope)(float *x, size_t heads, size_t size, const float *cosine, const float *sine);
  /// out = gate / (1 + exp(-gate)) * up, [n] each. out may be gate.
  void (*swiglu)(const float *gate, const float *up, float *out, size_t n);
  /// The same with GELU, in its approximation by tanh, in place of SiLU.
  void (*geglu)(const float *gate, const float *up, float *out, size_t n);
  /// x = cap * tanh(x / cap), [n].
  void (*soft_cap)(float *x, float cap, size_t n);
  /// out = exp((x - maximum) * factor), [n] each. Returns the sum, taken over 1,024 values at a time. out may be x, or
  /// null if only the sum is wanted.
  double (*exp_sum)(const float *x, size_t n, float maximum, float factor, float *_Nullable out);
  /// x += y, [n] each.
  void (*add)(float *x, const float *y, size_t n);

  // MARK: the machine's limits, for benchmarks

  /// Reads `bytes` bytes and returns a checksum of all of them. `bytes` is a multiple of 256, `data` aligned to 64.
  uint64_t (*read_all)(const void *data, size_t bytes);
  /// Does `n` rounds of the integer products' multiplications and additions in registers.
  int32_t (*integer_peak)(size_t n);
  /// Operations of one round; a multiplication and an addition count as two.
  size_t integer_peak_operations;
} graft_forward_kernels;

#pragma clang assume_nonnull end
