// Compares the emulated AVX-512, VNNI and AMX kernels with their references, bit for bit, over shapes that fit no vector.
// scripts/check_avx512.sh compiles and runs it.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "CKernels.h"

extern const graft_kernels graft_scalar_kernels, graft_avx512_kernels, graft_vnni_kernels;
extern const graft_kernels graft_tile_reference_kernels, graft_amx_kernels;

static const graft_forward_kernels *scalar, *tested;
static const graft_training_kernels *tested_training;
static const char *tested_name;
static const int row_counts[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10,  11,  12,  13,
                                 14, 15, 16, 17, 25, 31, 32, 64, 97, 128, 130, 144};
enum { ROW_COUNTS = sizeof row_counts / sizeof *row_counts };
static int compared, different;

static float value(void) { return (float)(rand() % 20001 - 10000) * 1e-4f; }

static float *values(size_t count) {
  float *out = malloc(count * sizeof *out);
  for (size_t i = 0; i < count; i++) out[i] = value();
  return out;
}

static void compare(const char *what, const void *expected, const void *actual, size_t bytes) {
  compared++;
  if (memcmp(expected, actual, bytes) == 0) return;
  if (different++ < 20) printf("%s: %s differs\n", tested_name, what);
}

// MARK: products

enum product { NF4_INTEGER, INT8_INTEGER, NF4_FLOAT };

// Groups begin ..< end of all `groups`.
static void run_product(const graft_forward_kernels *k, enum product kind, const graft_matrix *w, const graft_activations *a,
                        const float *x, size_t rows, float *y, size_t groups, size_t begin, size_t end) {
  size_t ldy = groups * GRAFT_LANES;
  const graft_prefetch prefetches[] = {{(const char *)w->data, 64, 0, groups}, {(const char *)x, 192, 1, 2}};
  switch (kind) {
    case NF4_INTEGER: k->nf4_quantized_product(w, a, rows, y, ldy, begin, end, prefetches, 2); break;
    case INT8_INTEGER: k->int8_quantized_product(w, a, rows, y, ldy, begin, end, prefetches, 2); break;
    case NF4_FLOAT: k->nf4_product(w, x, w->columns, rows, y, ldy, begin, end); break;
  }
}

// Activations: ordinary ones; from denormal numbers to infinity; such that all integers have their maximum magnitude, in
// products that weights of maximum magnitude meet.
enum range { ORDINARY, EXTREME, LARGEST };

static float *activations(size_t count, enum range range) {
  float *out = values(count);
  const float extremes[] = {1e-39f, -3e-42f, 1e38f, -2e38f, 1e-20f, -0.0f, INFINITY, -INFINITY, NAN};
  if (range == EXTREME)
    for (size_t i = 0; i < count; i++)
      if (rand() % 16 == 0) out[i] = extremes[rand() % (int)(sizeof extremes / sizeof *extremes)];
  if (range == LARGEST) {
    const float largest = rand() % 2 ? 1.0f : -1.0f;
    for (size_t i = 0; i < count; i++) out[i] = largest;
  }
  return out;
}

// Which NaN a sum with one becomes is not specified.
static void unify_nan(float *x, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (isnan(x[i])) x[i] = NAN;
}

// `blocks` blocks of integers. On AMX, those of many rows are pairs of bytes; where the scale is not finite, their values do
// not matter.
static void compare_quantized(const int16_t *expected, const int16_t *actual, const float *scale, size_t blocks, size_t block,
                              size_t rows) {
  const int in_bytes = tested_training->multiply_bf16 && rows >= GRAFT_BYTE_ROWS;
  for (size_t b = 0; b < blocks; b++, expected += block, actual += block) {
    int16_t joined[64];
    const int8_t *bytes = (const int8_t *)actual;
    for (size_t i = 0; i < block; i++) joined[i] = in_bytes ? (int16_t)(64 * bytes[i] + bytes[block + i]) : actual[i];
    if (!in_bytes || isfinite(scale[b])) compare("quantize", expected, joined, block * sizeof *joined);
  }
}

static void check_product(size_t block, size_t rows, enum product kind, enum range range) {
  const size_t columns = block * 3, groups = 3, outputs = groups * GRAFT_LANES, slack = 65536;
  unsigned char *data = malloc(columns * outputs + slack);  // kernels prefetch beyond the end, but do not read there
  for (size_t i = 0; i < columns * outputs; i++) data[i] = (unsigned char)(1 + rand() % 127 + rand() % 2 * 128);
  if (range == LARGEST) memset(data, kind == INT8_INTEGER ? 0x81 : 0xFF, columns * outputs);
  size_t scales = outputs * columns / block;
  float *scale = malloc(scales * sizeof *scale);
  _Float16 *half = malloc(scales * sizeof *half + 64);
  for (size_t i = 0; i < scales; i++) half[i] = (_Float16)((scale[i] = fabsf(value())) * 1000);
  graft_matrix w = {.data = data, .scale = scale, .half_scale = (uint16_t *)half, .half_unit = 0x1p-10f,
                    .columns = columns, .block = block};

  float *x = activations(rows * columns, range);
  int16_t *q[2];
  float *q_scale[2];
  for (int i = 0; i < 2; i++) {
    q[i] = malloc(rows * columns * sizeof(int16_t) + 64);
    q_scale[i] = malloc(rows * columns / block * sizeof(float));
    for (size_t r = 0; r < rows; r++)
      (i ? tested : scalar)->quantize(x + r * columns, columns, block, rows, q[i] + r * block, q_scale[i] + r);
  }
  compare_quantized(q[0], q[1], q_scale[0], rows * columns / block, block, rows);
  compare("quantize, scales", q_scale[0], q_scale[1], rows * columns / block * sizeof(float));

  graft_activations a = {.q = q[0], .scale = q_scale[0], .columns = columns, .block = block, .stride = rows}, b = a;
  b.q = q[1];
  float *expected = calloc(rows * outputs, sizeof(float)), *actual = calloc(rows * outputs, sizeof(float));
  run_product(scalar, kind, &w, &a, x, rows, expected, groups, 0, groups);
  // In two parts, as threads divide it.
  run_product(tested, kind, &w, &b, x, rows, actual, groups, 0, rows % groups);
  run_product(tested, kind, &w, &b, x, rows, actual, groups, rows % groups, groups);
  unify_nan(expected, rows * outputs), unify_nan(actual, rows * outputs);
  const char *names[] = {"nf4_quantized_product", "int8_quantized_product", "nf4_product"};
  compare(names[kind], expected, actual, rows * outputs * sizeof(float));
  if (kind == NF4_FLOAT) {
    scalar->nf4_row_squares(&w, expected, 0, groups);
    tested->nf4_row_squares(&w, actual, 0, groups);
    compare("nf4_row_squares", expected, actual, outputs * sizeof(float));
  }
  free(data), free(scale), free(half), free(x), free(expected), free(actual);
  for (int i = 0; i < 2; i++) free(q[i]), free(q_scale[i]);
}

static void check_dense_product(size_t columns, size_t rows, enum range range) {
  const size_t groups = 3, outputs = groups * GRAFT_LANES;
  float *data = values(columns * outputs), *x = activations(rows * columns, range);
  graft_matrix w = {.data = data, .columns = columns, .block = 64};
  float *expected = calloc(rows * outputs, sizeof(float)), *actual = calloc(rows * outputs, sizeof(float));
  scalar->dense_product(&w, x, columns, rows, expected, outputs, 0, groups);
  tested->dense_product(&w, x, columns, rows, actual, outputs, 0, rows % groups);
  tested->dense_product(&w, x, columns, rows, actual, outputs, rows % groups, groups);
  unify_nan(expected, rows * outputs), unify_nan(actual, rows * outputs);
  compare("dense_product", expected, actual, rows * outputs * sizeof(float));
  free(data), free(x), free(expected), free(actual);
}

// MARK: LoRA

static void *factor(size_t count, int is_bf16) {
  char *out = calloc(1, count * (is_bf16 ? 2 : 4) + 64);
  for (size_t i = 0; i < count; i++) {
    float f = value();
    uint32_t bits;
    memcpy(&bits, &f, 4);
    if (is_bf16) ((uint16_t *)out)[i] = (uint16_t)(bits >> 16); else ((float *)out)[i] = f;
  }
  return out;
}

static void check_lora(size_t rank, size_t columns, size_t rows, int is_bf16, enum range range) {
  const size_t groups = 3, outputs = groups * GRAFT_LANES;
  size_t padded_columns = is_bf16 ? (columns + 1) / 2 * 2 : columns, padded_rank = is_bf16 ? (rank + 1) / 2 * 2 : rank;
  graft_lora w = {.a = factor(rank * padded_columns, is_bf16), .b = factor(outputs * padded_rank, is_bf16),
                  .columns = columns, .rank = rank, .is_bf16 = is_bf16};
  size_t ldu = (rank + GRAFT_LANES - 1) / GRAFT_LANES * GRAFT_LANES;
  float *x = activations(rows * columns, range), *magnitude = values(outputs);
  float *u = calloc(rows * ldu, sizeof(float)), *u2 = calloc(rows * ldu, sizeof(float));
  scalar->lora_shrink(&w, x, columns, rows, u, ldu);
  tested->lora_shrink(&w, x, columns, rows, u2, ldu);
  unify_nan(u, rows * ldu), unify_nan(u2, rows * ldu);
  for (size_t r = 0; r < rows; r++) compare("lora_shrink", u + r * ldu, u2 + r * ldu, rank * sizeof(float));
  for (int scaled = 0; scaled < 2; scaled++) {
    float *y = values(rows * outputs), *y2 = malloc(rows * outputs * sizeof(float));
    memcpy(y2, y, rows * outputs * sizeof(float));
    scalar->lora_expand(&w, u, ldu, rows, 0.7f, scaled ? magnitude : 0, y, outputs, 0, groups);
    // In two parts, as threads divide it.
    tested->lora_expand(&w, u, ldu, rows, 0.7f, scaled ? magnitude : 0, y2, outputs, 0, rank % groups);
    tested->lora_expand(&w, u, ldu, rows, 0.7f, scaled ? magnitude : 0, y2, outputs, rank % groups, groups);
    unify_nan(y, rows * outputs), unify_nan(y2, rows * outputs);
    compare("lora_expand", y, y2, rows * outputs * sizeof(float));
    free(y), free(y2);
  }
  free((void *)w.a), free((void *)w.b), free(x), free(magnitude), free(u), free(u2);
}

// MARK: elementwise operations and attention

static void check_elementwise(size_t n) {
  float *x = values(n), *w = values(n), *y = values(n), *z = malloc(n * sizeof(float));
  float *expected = calloc(n, sizeof(float)), *actual = calloc(n, sizeof(float));
  size_t bytes = n * sizeof(float);
  memcpy(z, y, bytes);
  for (size_t i = 0; i < n; i++) x[i] *= 5;
  scalar->rms_norm(x, w, 1e-5f, expected, n), tested->rms_norm(x, w, 1e-5f, actual, n);
  compare("rms_norm", expected, actual, bytes);
  scalar->swiglu(x, w, expected, n), tested->swiglu(x, w, actual, n);
  compare("swiglu", expected, actual, bytes);
  scalar->geglu(x, w, expected, n), tested->geglu(x, w, actual, n);
  compare("geglu", expected, actual, bytes);
  memcpy(expected, x, bytes), memcpy(actual, x, bytes);
  scalar->soft_cap(expected, 3, n), tested->soft_cap(actual, 3, n);
  compare("soft_cap", expected, actual, bytes);
  scalar->add(y, x, n), tested->add(z, x, n);
  compare("add", y, z, bytes);
  scalar->add_scaled(y, x, w, 0.3f, n), tested->add_scaled(z, x, w, 0.3f, n);
  compare("add_scaled", y, z, bytes);
  double sums[] = {scalar->exp_sum(x, n, 5, 1, expected), tested->exp_sum(x, n, 5, 1, actual)};
  compare("exp_sum", &sums[0], &sums[1], sizeof *sums);
  compare("exp_sum, values", expected, actual, bytes);
  free(x), free(w), free(y), free(z), free(expected), free(actual);
}

static void check_rope(size_t heads, size_t size) {
  float *x = values(heads * size), *y = malloc(heads * size * sizeof(float));
  float *cosine = values(size / 2), *sine = values(size / 2);
  memcpy(y, x, heads * size * sizeof(float));
  scalar->rope(x, heads, size, cosine, sine), tested->rope(y, heads, size, cosine, sine);
  compare("rope", x, y, heads * size * sizeof(float));
  free(x), free(y), free(cosine), free(sine);
}

static void check_elementwise_training(size_t n) {
  const graft_training_kernels *reference = &graft_scalar_kernels.training;
  enum { ARRAYS = 4 };
  float *in[ARRAYS], *expected[ARRAYS], *actual[ARRAYS];
  for (int i = 0; i < ARRAYS; i++) in[i] = values(n), expected[i] = malloc(n * 4 + 4), actual[i] = malloc(n * 4 + 4);
  float settings[GRAFT_ADAM_SETTINGS];
  for (int i = 0; i < GRAFT_ADAM_SETTINGS; i++) settings[i] = 0.1f + 0.8f * fabsf(value());
  double sums[2][2];
#define EACH(what, call)                                                                        \
  do {                                                                                          \
    for (int i = 0; i < ARRAYS; i++) memcpy(expected[i], in[i], n * 4), memcpy(actual[i], in[i], n * 4); \
    for (int side = 0; side < 2; side++) {                                                      \
      const graft_training_kernels *k = side ? tested_training : reference;                     \
      float **out = side ? actual : expected;                                                   \
      call;                                                                                     \
    }                                                                                           \
    for (int i = 0; i < ARRAYS; i++) compare(what, expected[i], actual[i], n * sizeof(float));   \
  } while (0)
  EACH("rms_norm_backward", k->rms_norm_backward(in[0], in[1], 1e-5f, in[2], out[0], n));
  EACH("swiglu_backward", k->swiglu_backward(in[0], in[1], in[2], out[0], out[1], n));
  EACH("geglu_backward", k->geglu_backward(in[0], in[1], in[2], out[0], out[1], n));
  EACH("soft_cap_backward", k->soft_cap_backward(in[0], 3, out[0], n));
  EACH("softmax_backward", k->softmax_backward(in[0], in[1], 0.3f, 0.7f, out[0], n));
  EACH("scale", k->scale(out[0], 0.7f, n));
  EACH("multiply", k->multiply(in[0], in[1], out[0], n));
  EACH("multiply_add", k->multiply_add(in[0], in[1], 0.7f, out[2], n));
  EACH("dropout", k->dropout(in[0], out[0], n, 5, 6, 7, 1u << 30, 1.25f, 0));
  EACH("dropout, added", k->dropout(in[0], out[1], n, 5, 6, 7, 1u << 30, 1.25f, 1));
  for (size_t i = 0; i < n; i++) in[3][i] = fabsf(in[3][i]);  // the variance
  EACH("adamw", k->adamw(out[0], in[1], out[2], out[3], n, settings));
  EACH("sums", (sums[side][0] = (double)k->dot(in[0], in[1], n), sums[side][1] = k->sum_squares(in[0], n)));
  compare("dot, sum_squares", sums[0], sums[1], sizeof sums[0]);
#undef EACH
  for (int i = 0; i < ARRAYS; i++) free(in[i]), free(expected[i]), free(actual[i]);
}

// Numbers of very different magnitudes, some of them denormal or zero.
static float *uneven_values(size_t count) {
  const float factors[] = {1, 1, 1, 1e-3f, 30, 1e-40f, 0, -1e-20f};
  float *out = values(count), factor = factors[rand() % 8];
  for (size_t i = 0; i < count; i++) out[i] *= rand() % 16 ? factor : factors[rand() % 8];
  return out;
}

static void check_attention(graft_kv_type type, size_t size, size_t heads, int uneven) {
  enum { LENGTH = GRAFT_SPAN + 77, BLOCKS = (LENGTH + GRAFT_KV_BLOCK - 1) / GRAFT_KV_BLOCK };
  const size_t element = type == GRAFT_KV_F32 ? 4 : type == GRAFT_KV_INT8 ? 1 : 2;
  size_t bytes = 2 * size * GRAFT_KV_BLOCK * element + (type >= GRAFT_KV_INT8 ? 2 * GRAFT_KV_BLOCK * sizeof(float) : 0);
  void *expected_blocks[BLOCKS], *actual_blocks[BLOCKS];
  for (int i = 0; i < BLOCKS; i++) expected_blocks[i] = calloc(1, bytes), actual_blocks[i] = calloc(1, bytes);
  for (size_t p = 0; p < LENGTH; p++) {
    float *key = uneven ? uneven_values(size) : values(size), *content = uneven ? uneven_values(size) : values(size);
    size_t block = p / GRAFT_KV_BLOCK, slot = p % GRAFT_KV_BLOCK;
    scalar->store_kv(key, content, type, size, slot, expected_blocks[block]);
    tested->store_kv(key, content, type, size, slot, actual_blocks[block]);
    free(key), free(content);
  }
  for (int i = 0; i < BLOCKS; i++) compare("store_kv", expected_blocks[i], actual_blocks[i], bytes);
  graft_attention a = {.blocks = (const void *const *)expected_blocks, .type = type, .head_size = size,
                       .heads_per_group = heads, .scale = 0.125f};
  // Rows of the last positions, as many as a tile takes; the span's end lies among the first.
  size_t rows = graft_tile_queries(size) / heads, ld = heads * size;
  rows = rows < 1 ? 1 : rows > 16 ? 16 : rows;
  float *query = uneven ? uneven_values(rows * ld) : values(rows * ld);
  float *expected = calloc(rows * ld, sizeof(float)), *actual = calloc(rows * ld, sizeof(float));
  for (size_t count = 1; count <= rows; count++) {
    scalar->attend(&a, query, ld, count, LENGTH - rows + 1, 0, expected, ld);
    tested->attend(&a, query, ld, count, LENGTH - rows + 1, 0, actual, ld);
    compare("attend", expected, actual, count * ld * sizeof(float));
  }
  float *partials = calloc(2 * heads * (size + 2), sizeof(float));
  for (size_t span = 0; span < 2; span++)
    tested->attend_span(&a, query, LENGTH - rows + 1, 0, span * GRAFT_SPAN,
                        span ? LENGTH - rows + 1 : GRAFT_SPAN, partials + span * heads * (size + 2));
  if (LENGTH - rows + 1 > GRAFT_SPAN) {
    tested->join_spans(&a, partials, 2, actual);
    compare("attend_span", expected, actual, ld * sizeof(float));
  }
  free(partials);
  // Windows that begin in the first span and in the second, alone and with a soft cap.
  for (int cap = 0; cap < 2; cap++) {
    a.soft_cap = cap ? 1.5f : 0;
    for (a.window = 1; a.window < LENGTH; a.window += 45) {
      scalar->attend(&a, query, ld, rows, LENGTH - rows + 1, 0, expected, ld);
      tested->attend(&a, query, ld, rows, LENGTH - rows + 1, 0, actual, ld);
      compare("attend in a window", expected, actual, rows * ld * sizeof(float));
    }
    a.window = 0;
    scalar->attend(&a, query, ld, rows, LENGTH - rows + 1, 0, expected, ld);
    tested->attend(&a, query, ld, rows, LENGTH - rows + 1, 0, actual, ld);
    compare("attend with a cap", expected, actual, rows * ld * sizeof(float));
  }
  for (int i = 0; i < BLOCKS; i++) free(expected_blocks[i]), free(actual_blocks[i]);
  free(query), free(expected), free(actual);
}

// MARK: training

static void check_decoding(size_t block) {
  const size_t columns = block * 3, groups = 3, ldo = groups * GRAFT_LANES + 5, scales = groups * GRAFT_LANES * 3;
  unsigned char *data = malloc(columns * groups * GRAFT_LANES);
  for (size_t i = 0; i < columns * groups * GRAFT_LANES; i++) data[i] = (unsigned char)rand();
  float *scale = values(scales);
  _Float16 *half = malloc(scales * sizeof *half);
  for (size_t i = 0; i < scales; i++) half[i] = (_Float16)scale[i];
  graft_matrix w = {.data = data, .scale = scale, .half_scale = (uint16_t *)half, .half_unit = 0x1p-3f,
                    .columns = columns, .block = block};
  float *expected = calloc(columns * ldo, sizeof(float)), *actual = calloc(columns * ldo, sizeof(float));
  graft_scalar_kernels.training.decode_nf4(&w, 1, groups, 8, columns, expected, ldo);
  tested_training->decode_nf4(&w, 1, groups, 8, columns, actual, ldo);
  compare("decode_nf4", expected, actual, columns * ldo * sizeof(float));
  graft_scalar_kernels.training.decode_int8(&w, 1, groups, 8, columns, expected, ldo);
  tested_training->decode_int8(&w, 1, groups, 8, columns, actual, ldo);
  compare("decode_int8", expected, actual, columns * ldo * sizeof(float));
  float *dense = values(columns * groups * GRAFT_LANES);
  w.data = dense;
  graft_scalar_kernels.training.decode_dense(&w, 1, groups, 3, columns, expected, ldo);
  tested_training->decode_dense(&w, 1, groups, 3, columns, actual, ldo);
  compare("decode_dense", expected, actual, columns * ldo * sizeof(float));
  free(data), free(dense), free(scale), free(half), free(expected), free(actual);
}

static void check_multiply(size_t m, size_t n, size_t k, int transposed, graft_accumulation accumulation) {
  float *a = values(m * k), *b = values(k * n), *expected = values(m * n), *actual = malloc(m * n * sizeof(float));
  memcpy(actual, expected, m * n * sizeof(float));
  graft_dense left = {a, transposed ? 1 : k, transposed ? m : 1}, right = {b, transposed ? 1 : n, transposed ? k : 1};
  graft_scalar_kernels.training.multiply_dense(m, n, k, 0.7f, &left, &right, accumulation, expected, n);
  tested_training->multiply_dense(m, n, k, 0.7f, &left, &right, accumulation, actual, n);
  compare("multiply_dense", expected, actual, m * n * sizeof(float));
  free(a), free(b), free(expected), free(actual);
}

// c's values, which products are added to, are in the range of the operands.
static void check_bf16(size_t m, size_t n, size_t k, int a_along_k, int b_along_k, graft_accumulation accumulation,
                       int grouped, enum range range) {
  float *a = activations(m * k, range), *b = activations(k * n, range), *expected = activations(m * (n + 3), range);
  float *actual = malloc(m * (n + 3) * sizeof(float));
  memcpy(actual, expected, m * (n + 3) * sizeof(float));
  graft_dense left = {a, a_along_k ? k : 1, a_along_k ? 1 : m}, right = {b, b_along_k ? 1 : n, b_along_k ? k : 1};
  // Groups of 32 of three rows of data.
  size_t starts[64] = {0}, groups = 0;
  const size_t ends[] = {k / 5, k / 2, k};
  for (int i = 0; i < 3; i++)
    while (starts[groups] < ends[i]) {
      size_t left_over = ends[i] - starts[groups];
      starts[groups + 1] = starts[groups] + (left_over < 32 ? left_over : 32);
      groups++;
    }
  const size_t *given = grouped ? starts : 0;
  graft_tile_reference_kernels.training.multiply_bf16(m, n, k, 0.7f, &left, &right, given, groups, accumulation,
                                                      expected, n + 3);
  tested_training->multiply_bf16(m, n, k, 0.7f, &left, &right, given, groups, accumulation, actual, n + 3);
  unify_nan(expected, m * (n + 3)), unify_nan(actual, m * (n + 3));
  compare("multiply_bf16", expected, actual, m * (n + 3) * sizeof(float));
  free(a), free(b), free(expected), free(actual);
}

// In parts of columns and outputs, as training divides it.
static void check_backward(size_t block, size_t rows, size_t outputs, int is_nf4, enum range range) {
  const size_t columns = 5 * block, groups = (outputs + GRAFT_LANES - 1) / GRAFT_LANES, padded = groups * GRAFT_LANES;
  const size_t scales = padded * columns / block, tile = (outputs + 31) / 32 * 512;
  unsigned char *data = malloc(columns * padded);
  for (size_t i = 0; i < columns * padded; i++) data[i] = (unsigned char)rand();
  float *scale = values(scales), *dy = activations(rows * (outputs + 5), range);
  _Float16 *half = malloc(scales * sizeof *half);
  for (size_t i = 0; i < scales; i++) half[i] = (_Float16)scale[i];
  if (range == EXTREME) scale[rand() % scales] = 1e-39f;
  graft_matrix w = {.data = data, .scale = scale, .half_scale = (uint16_t *)half, .half_unit = 0x1p-3f,
                    .columns = columns, .block = block};
  float *dx[2];
  uint16_t *packed[2];
  const graft_training_kernels *kernels[] = {&graft_tile_reference_kernels.training, tested_training};
  const size_t middle = outputs / 64 * 32, column = columns / 16 * 8;
  for (int i = 0; i < 2; i++) {
    dx[i] = calloc(rows * (columns + 3), sizeof(float));
    packed[i] = malloc((rows + 15) / 16 * tile * sizeof(uint16_t));
    for (size_t r = 0; r < rows; r += 16)
      kernels[i]->pack_gradient(dy + r * (outputs + 5), outputs + 5, rows - r < 16 ? rows - r : 16, outputs,
                                packed[i] + r / 16 * tile);
    const size_t parts[][4] = {{0, middle, 0, columns}, {middle, outputs, column, columns}, {middle, outputs, 0, column}};
    for (int p = 0; p < 3; p++)
      if (parts[p][0] < parts[p][1])
        (is_nf4 ? kernels[i]->nf4_backward : kernels[i]->int8_backward)(
            &w, packed[i], rows, outputs, parts[p][0], parts[p][1], parts[p][2], parts[p][3], dx[i], columns + 3);
    unify_nan(dx[i], rows * (columns + 3));
  }
  compare("pack_gradient", packed[0], packed[1], (rows + 15) / 16 * tile * sizeof(uint16_t));
  compare(is_nf4 ? "nf4_backward" : "int8_backward", dx[0], dx[1], rows * (columns + 3) * sizeof(float));
  free(data), free(scale), free(half), free(dy);
  for (int i = 0; i < 2; i++) free(dx[i]), free(packed[i]);
}

static void check_training_tiles(void) {
  const size_t sizes[][3] = {{1, 1, 1},    {16, 16, 32}, {17, 33, 31},  {64, 8, 300}, {8, 64, 300},
                             {130, 40, 7}, {270, 5, 65}, {33, 70, 577}, {40, 256, 70}};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
    for (int layout = 0; layout < 4; layout++)
      for (graft_accumulation accumulation = GRAFT_OVERWRITE; accumulation <= GRAFT_CHAIN; accumulation++)
        for (enum range range = ORDINARY; range <= EXTREME; range++)
          check_bf16(sizes[s][0], sizes[s][1], sizes[s][2], layout & 1, layout >> 1, accumulation, layout > 1, range);
  for (size_t block = 8; block <= 64; block *= 2)
    for (int r = 0; r < ROW_COUNTS; r++)
      for (int is_nf4 = 0; is_nf4 < 2; is_nf4++)
        for (enum range range = ORDINARY; range <= EXTREME; range++)
          check_backward(block, (size_t)row_counts[r], (size_t)(20 + 41 * r), is_nf4, range);
  check_backward(64, 300, 600, 1, ORDINARY);
}

static void check_all(const graft_kernels *kernels, const graft_kernels *reference) {
  scalar = &reference->forward;
  tested = &kernels->forward;
  tested_training = &kernels->training;
  tested_name = kernels->name;
  for (size_t block = 8; block <= 64; block *= 2) check_decoding(block);
  for (size_t m = 1; m < 90; m += 11)
    for (size_t n = 1; n < 50; n += 15)
      for (graft_accumulation accumulation = GRAFT_OVERWRITE; accumulation <= GRAFT_CHAIN; accumulation++)
        check_multiply(m, n, 300 + n, (int)(m % 2), accumulation);
  for (size_t block = 8; block <= 64; block *= 2)
    for (int r = 0; r < ROW_COUNTS; r++)
      for (enum product kind = NF4_INTEGER; kind <= NF4_FLOAT; kind++)
        for (enum range range = ORDINARY; range <= LARGEST; range++)
          check_product(block, (size_t)row_counts[r], kind, range);
  if (tested_training->multiply_bf16) check_training_tiles();
  for (int is_bf16 = 0; is_bf16 < 2; is_bf16++) {
    for (enum range range = ORDINARY; range <= EXTREME; range++) {
      for (size_t rank = 1; rank < 70; rank += 3)
        for (int r = 0; r < ROW_COUNTS; r++) check_lora(rank, 33 + rank % 2, (size_t)row_counts[r], is_bf16, range);
      const size_t ranks[] = {8, 32, 96, 100, 128, 200, 255};
      for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++) check_lora(ranks[i], 66, 5 + 7 * i, is_bf16, range);
      check_lora(256, 96, 33, is_bf16, range);
      check_lora(270, 31, 17, is_bf16, range);
      check_lora(529, 64, 20, is_bf16, range);
      check_lora(16, 1100, 40, is_bf16, range);
      check_lora(20, 577, 1, is_bf16, range);
    }
  }
  for (size_t columns = 1; columns < 200; columns += 63)
    for (int r = 0; r < ROW_COUNTS; r++)
      for (enum range range = ORDINARY; range <= EXTREME; range++)
        check_dense_product(columns, (size_t)row_counts[r], range);
  for (size_t n = 1; n < 200; n += 7) check_elementwise(n), check_elementwise_training(n), check_rope(3, 2 * n);
  for (graft_kv_type type = GRAFT_KV_F32; type <= GRAFT_KV_INT16; type++)
    for (size_t size = 16; size <= 128; size += 16)
      for (size_t heads = 1; heads <= 5; heads++) check_attention(type, size, heads, heads % 2);
  for (int uneven = 0; uneven < 2; uneven++)
    for (size_t size = 192; size <= 256; size += 64) check_attention(GRAFT_KV_INT16, size, 4, uneven);
}

int main(void) {
  check_all(&graft_avx512_kernels, &graft_scalar_kernels);
  check_all(&graft_vnni_kernels, &graft_scalar_kernels);
  check_all(&graft_amx_kernels, &graft_scalar_kernels);
  printf("%d comparisons, %d differ\n", compared, different);
  return different != 0;
}
