// The kernels of training: the backward pass, dropout and the optimiser. Included by CKernels.h.
#pragma once

#include "graft_layouts.h"

#pragma clang assume_nonnull begin

/// How a product is combined with the values that its output holds.
typedef enum {
  GRAFT_OVERWRITE,  // the product replaces them
  GRAFT_ADD,        // the product is computed, then added to them
  GRAFT_CHAIN       // the product's sums start from them
} graft_accumulation;

/// One instruction set's kernels of training.
typedef struct {
  // MARK: products

  /// c = factor * a * b, combined with c. a: [m][k], b: [k][n]; c: [m][ldc], of which n values a row are written.
  /// The factor is multiplied into b, and rounded, before anything else. 256 products of a value are one chain of fused
  /// multiply-adds in the order of k, and the sums of such chains are added in their order; with GRAFT_CHAIN there is one
  /// chain, however long. So dividing a product by m or n changes no bit, nor does dividing a GRAFT_CHAIN product by k.
  void (*multiply_dense)(size_t m, size_t n, size_t k, float factor, const graft_dense *a, const graft_dense *b,
                         graft_accumulation accumulation, float *c, size_t ldc);

  /// Decodes a part of a weight matrix to f32, a column to a row of the output:
  /// out[(column - column_begin) * ldo + 16 * (group - group_begin) + lane] for columns column_begin ..< column_end and
  /// groups group_begin ..< group_end. The columns begin and end on multiples of 8.
  void (*decode_nf4)(const graft_matrix *w, size_t group_begin, size_t group_end, size_t column_begin,
                     size_t column_end, float *out, size_t ldo);
  /// The same of an int8 matrix.
  void (*decode_int8)(const graft_matrix *w, size_t group_begin, size_t group_end, size_t column_begin,
                      size_t column_end, float *out, size_t ldo);
  /// The same of a dense matrix; the columns may begin and end anywhere.
  void (*decode_dense)(const graft_matrix *w, size_t group_begin, size_t group_end, size_t column_begin,
                       size_t column_end, float *out, size_t ldo);

  // MARK: products in bf16 on tile registers; null in sets that have none
  //
  // Operands are rounded to bf16, denormal numbers to 0. 32 products of a value are summed as tile_semantics.h shows,
  // fewer being filled up with zeros, and these sums are added in their order: to 0 if the output is overwritten, else to
  // what it holds.

  /// c = factor * a * b, combined with c; the factor is multiplied into b before it is rounded. GRAFT_ADD and GRAFT_CHAIN
  /// are the same. Group i of the products are those of k from starts[i] ..< starts[i + 1], at most 32; without `starts`
  /// the groups are the first 32, the next 32, and so on. So dividing a product by m or n changes no bit, nor does
  /// dividing it between two groups.
  /// starts: [groups + 1], ascending to k; shapes as in multiply_dense. Of each operand, one step is 1.
  void (*_Nullable multiply_bf16)(size_t m, size_t n, size_t k, float factor, const graft_dense *a,
                                  const graft_dense *b, const size_t *_Nullable starts, size_t groups,
                                  graft_accumulation accumulation, float *c, size_t ldc);
  /// Rounds at most 16 rows of gradients for the two functions below. dy: [rows][ld]; packed: [outputs / 32, rounded
  /// up][16 pairs of outputs][16 rows][2], written, zeros included.
  void (*_Nullable pack_gradient)(const float *dy, size_t ld, size_t rows, size_t outputs, uint16_t *packed);
  /// dx = dy W for columns column_begin ..< column_end (multiples of 8) and the sum over outputs output_begin ..<
  /// output_end, which overwrites dx if it begins with 0. W is NF4 and is multiplied with its f32 scales before it is
  /// rounded. output_begin is a multiple of 32, and output_end one or `outputs`.
  /// gradient: what pack_gradient writes for all `outputs`, for each 16 rows; dx: [rows][ldx].
  void (*_Nullable nf4_backward)(const graft_matrix *w, const uint16_t *gradient, size_t rows, size_t outputs,
                                 size_t output_begin, size_t output_end, size_t column_begin, size_t column_end,
                                 float *dx, size_t ldx);
  /// The same with an int8 W.
  void (*_Nullable int8_backward)(const graft_matrix *w, const uint16_t *gradient, size_t rows, size_t outputs,
                                  size_t output_begin, size_t output_end, size_t column_begin, size_t column_end,
                                  float *dx, size_t ldx);

  // MARK: gradients of elementwise operations. d… is the gradient of …; [n] each.

  /// dx += the gradient of x in out = x / sqrt(mean(x^2) + epsilon) * weight.
  void (*rms_norm_backward)(const float *x, const float *weight, float epsilon, const float *dout, float *dx, size_t n);
  /// The gradients of out = silu(gate) * up. dgate may be gate, and dup may be up.
  void (*swiglu_backward)(const float *gate, const float *up, const float *dout, float *dgate, float *dup, size_t n);
  /// The gradients of out = gelu(gate) * up, with GELU in its approximation by tanh. As for SwiGLU.
  void (*geglu_backward)(const float *gate, const float *up, const float *dout, float *dgate, float *dup, size_t n);
  /// dx *= 1 - (capped / cap)^2: the gradient of x in capped = cap * tanh(x / cap).
  void (*soft_cap_backward)(const float *capped, float cap, float *dx, size_t n);
  /// dscores = p * (dp - total) * scale: the gradient of scores in p = softmax(scale * scores), where total is the sum of
  /// p * dp. dscores may be dp.
  void (*softmax_backward)(const float *p, const float *dp, float total, float scale, float *dscores, size_t n);

  // MARK: elementwise, [n] each

  /// The sum of a * b.
  float (*dot)(const float *a, const float *b, size_t n);
  /// x *= factor.
  void (*scale)(float *x, float factor, size_t n);
  /// out = a * b. out may be a.
  void (*multiply)(const float *a, const float *b, float *out, size_t n);
  /// y += a * b * factor.
  void (*multiply_add)(const float *a, const float *b, float factor, float *y, size_t n);
  /// The sum of squares in f64.
  double (*sum_squares)(const float *x, size_t n);

  // MARK: dropout and the optimiser, [n] each

  /// Inverted dropout: out = x * factor, or 0 where the random number of the value is below `threshold`; added to out if
  /// `add` is not 0. Value i has random number first + i of the sequence with the key (key0, key1). out may be x if `add`
  /// is 0.
  void (*dropout)(const float *x, float *out, size_t n, uint32_t first, uint32_t key0, uint32_t key1,
                  uint32_t threshold, float factor, int add);
  /// One step of AdamW (Loshchilov and Hutter, 2019). mean and variance are the gradient's moments.
  /// settings: [GRAFT_ADAM_SETTINGS].
  void (*adamw)(float *parameter, const float *gradient, float *mean, float *variance, size_t n,
                const float *settings);
} graft_training_kernels;

/// Indices into the settings of `adamw`. For step t from 1, the correction of the mean is 1 - beta1^t, and that of the
/// variance 1 - beta2^t.
enum {
  GRAFT_ADAM_RATE,     // learning rate / correction of the mean
  GRAFT_ADAM_DECAY,    // 1 - learning rate * weight decay
  GRAFT_ADAM_BETA1,
  GRAFT_ADAM_BETA2,
  GRAFT_ADAM_EPSILON,
  GRAFT_ADAM_ROOT,     // square root of the variance's correction
  GRAFT_ADAM_CLIP,     // factor on the gradient
  GRAFT_ADAM_SETTINGS  // how many there are
};

#pragma clang assume_nonnull end
