// The loops of the backward pass. As for the others: no allocation, no threads, no globals, and one order of operations.
// Included by CKernels.h.
#pragma once

/// A dense matrix: value (i, j) at values[i * row_step + j * column_step].
typedef struct {
  const float *values;
  size_t row_step, column_step;
} graft_dense;

/// What a product is put onto.
typedef enum {
  GRAFT_NOTHING,
  GRAFT_SUM,    // added to what is there
  GRAFT_CHAIN,  // goes on with what is there as if it had been the product's own sum so far
} graft_onto;

/// One instruction set's implementations.
typedef struct {
  /// c = factor * a * b, put onto c; a: [m][k], b: [k][n], c: [m][ldc], of which n values a row are written.
  /// 256 products of a value are one chain of fused multiply-adds in the order of k (b times the factor is rounded
  /// before), and such sums are added in their order; a chain that goes on is never broken off. So no cutting by m or n
  /// changes a bit, nor one of a chain by k.
  void (*multiply_dense)(size_t m, size_t n, size_t k, float factor, const graft_dense *a, const graft_dense *b,
                         graft_onto onto, float *c, size_t ldc);

  /// Decodes columns [column_begin, column_end) of groups [group_begin, group_end) of a matrix of any kind:
  /// out[(column - column_begin) * ldo + 16 * (group - group_begin) + lane]. Columns begin and end on multiples of 8
  /// for NF4 and int8.
  void (*decode_nf4)(const graft_matrix *w, size_t group_begin, size_t group_end, size_t column_begin,
                     size_t column_end, float *out, size_t ldo);
  void (*decode_int8)(const graft_matrix *w, size_t group_begin, size_t group_end, size_t column_begin,
                      size_t column_end, float *out, size_t ldo);
  void (*decode_dense)(const graft_matrix *w, size_t group_begin, size_t group_end, size_t column_begin,
                       size_t column_end, float *out, size_t ldo);

  /// dx += the gradient of out = x / sqrt(mean(x^2) + epsilon) * weight, given dout; n values.
  void (*rms_norm_backward)(const float *x, const float *weight, float epsilon, const float *dout, float *dx, size_t n);
  /// The gradients of out = silu(gate) * up, n values; dgate and dup may be gate and up.
  void (*swiglu_backward)(const float *gate, const float *up, const float *dout, float *dgate, float *dup, size_t n);
  /// dscores = p * (dp - total) * scale, n values; dscores may be dp.
  void (*softmax_backward)(const float *p, const float *dp, float total, float scale, float *dscores, size_t n);
  /// Sum of a * b, n values.
  float (*dot)(const float *a, const float *b, size_t n);
  /// x = x * factor, n values.
  void (*scale)(float *x, float factor, size_t n);
  /// out = a * b, n values; out may be a.
  void (*multiply)(const float *a, const float *b, float *out, size_t n);
  /// y += a * b * c, n values, c constant: sums gradients of per-column factors.
  void (*multiply_add)(const float *a, const float *b, float factor, float *y, size_t n);

  /// Inverted dropout: out = x * factor, or 0 where hash(first + i, key) < threshold; is added to out if `add`.
  void (*dropout)(const float *x, float *out, size_t n, uint32_t first, uint32_t key0, uint32_t key1,
                  uint32_t threshold, float factor, int add);

  /// One step of AdamW (Loshchilov and Hutter, 2019) on n values; corrections are 1 - beta^t.
  void (*adamw)(float *parameter, const float *gradient, float *mean, float *variance, size_t n,
                const float *settings);
  /// Sum of squares in f64.
  double (*sum_squares)(const float *x, size_t n);
} graft_training_kernels;

/// What `adamw` reads from its settings.
enum {
  GRAFT_ADAM_RATE,         // learning rate / correction of the mean
  GRAFT_ADAM_DECAY,        // 1 - learning rate * weight decay
  GRAFT_ADAM_BETA1,
  GRAFT_ADAM_BETA2,
  GRAFT_ADAM_EPSILON,
  GRAFT_ADAM_ROOT,         // square root of the variance's correction
  GRAFT_ADAM_CLIP,         // factor on the gradient
  GRAFT_ADAM_SETTINGS
};

/// The implementations for an instruction set, or null where this machine or build has none.
const graft_training_kernels *graft_training_kernels_for(graft_level level);
