// What each kernel means, in plain C: the oracle for the others, and the fallback where there is no vector unit.
#include "CKernels.h"
#include "math.h"

#pragma STDC FP_CONTRACT OFF

enum { LANES = GRAFT_LANES, KV = GRAFT_KV_BLOCK };

static float nf4_weight(const uint8_t *group, size_t column, size_t lane) {
  uint8_t byte = group[column / 8 * 64 + lane * 4 + column % 4];
  return graft_nf4_values[column % 8 < 4 ? byte & 15 : byte >> 4];
}

// One output: each block's two halves are summed in column order, added to each other, scaled, added up.
static void nf4_product(const graft_matrix *w, const float *x, size_t ldx, size_t rows, float *y, size_t ldy,
                        size_t group_begin, size_t group_end) {
  size_t blocks = w->columns / w->block;
  for (size_t g = group_begin; g < group_end; g++) {
    const uint8_t *group = (const uint8_t *)w->data + g * w->columns * 8;
    for (size_t row = 0; row < rows; row++) {
      for (size_t lane = 0; lane < LANES; lane++) {
        float total = 0;
        for (size_t b = 0; b < blocks; b++) {
          float half[2] = {0, 0};
          for (size_t i = 0; i < w->block; i++) {
            size_t column = b * w->block + i;
            float *sum = &half[i >= w->block / 2];
            *sum = fmaf(nf4_weight(group, column, lane), x[row * ldx + column], *sum);
          }
          total = fmaf(w->scale[(g * blocks + b) * LANES + lane], half[0] + half[1], total);
        }
        y[row * ldy + g * LANES + lane] = total;
      }
    }
  }
}

static void dense_product(const graft_matrix *w, const float *x, size_t ldx, size_t rows, float *y, size_t ldy,
                          size_t group_begin, size_t group_end) {
  for (size_t g = group_begin; g < group_end; g++) {
    const float *group = (const float *)w->data + g * w->columns * LANES;
    for (size_t row = 0; row < rows; row++) {
      for (size_t lane = 0; lane < LANES; lane++) {
        float total = 0;
        for (size_t begin = 0; begin < w->columns; begin += w->block) {
          size_t end = begin + w->block < w->columns ? begin + w->block : w->columns;
          float half[2] = {0, 0};
          for (size_t column = begin; column < end; column++) {
            float *sum = &half[column - begin >= w->block / 2];
            *sum = fmaf(group[column * LANES + lane], x[row * ldx + column], *sum);
          }
          total = total + (half[0] + half[1]);
        }
        y[row * ldy + g * LANES + lane] = total;
      }
    }
  }
}


// Compared as integers: what is no number is above all numbers.
static float largest_magnitude(const float *x, size_t n) {
  uint32_t most = 0;
  for (size_t i = 0; i < n; i++) {
    uint32_t bits;
    memcpy(&bits, x + i, 4);
    bits &= 0x7FFFFFFF;
    most = bits > most ? bits : most;
  }
  float highest;
  memcpy(&highest, &most, 4);
  return highest;
}

static void quantize(const float *x, size_t columns, size_t block, size_t stride, int16_t *q, float *scale) {
  for (size_t b = 0; b < columns / block; b++, x += block, q += stride * block, scale += stride) {
    float highest = largest_magnitude(x, block);
    float inverse = scalar_inverse(highest, GRAFT_INTEGER_ONE);
    *scale = highest * (1.0f / GRAFT_INTEGER_ONE);
    for (size_t i = 0; i < block; i++) q[i] = scalar_round(x[i] * inverse);
  }
}

static void integer_product(const graft_matrix *w, const graft_activations *x, size_t rows, float *y, size_t ldy,
                            size_t group_begin, size_t group_end, int is_nf4) {
  size_t blocks = w->columns / w->block;
  float unit = is_nf4 ? w->half_unit / GRAFT_INTEGER_ONE : w->half_unit;
  for (size_t g = group_begin; g < group_end; g++) {
    for (size_t row = 0; row < rows; row++) {
      for (size_t lane = 0; lane < LANES; lane++) {
        float total = 0;
        for (size_t b = 0; b < blocks; b++) {
          uint32_t sum = 0;  // wraps where a row is not finite
          const int16_t *q = x->q + (b * x->stride + row) * w->block;
          for (size_t i = b * w->block; i < (b + 1) * w->block; i++) {
            int weight;
            if (is_nf4) {
              const uint8_t *group = (const uint8_t *)w->data + g * w->columns * 8;
              uint8_t byte = group[i / 8 * 64 + lane * 4 + i % 4];
              weight = graft_nf4_integers[i % 8 < 4 ? byte & 15 : byte >> 4];
            } else {
              weight = ((const int8_t *)w->data)[g * w->columns * LANES + (i / 2 * LANES + lane) * 2 + i % 2];
            }
            sum += (uint32_t)(weight * q[i - b * w->block]);
          }
          float factor = x->scale[b * x->stride + row] * unit;
          float scale = half_to_float(w->half_scale[(g * blocks + b) * LANES + lane]);
          total = fmaf(scale * factor, (float)(int32_t)sum, total);
        }
        y[row * ldy + g * LANES + lane] = total;
      }
    }
  }
}

static void nf4_integer_product(const graft_matrix *w, const graft_activations *x, size_t rows, float *y, size_t ldy,
                                size_t group_begin, size_t group_end, const graft_fetch *fetches, size_t fetch_count) {
  (void)fetches, (void)fetch_count;
  integer_product(w, x, rows, y, ldy, group_begin, group_end, 1);
}

static void int8_integer_product(const graft_matrix *w, const graft_activations *x, size_t rows, float *y, size_t ldy,
                                 size_t group_begin, size_t group_end, const graft_fetch *fetches, size_t fetch_count) {
  (void)fetches, (void)fetch_count;
  integer_product(w, x, rows, y, ldy, group_begin, group_end, 0);
}

static void rms_norm(const float *x, const float *weight, float epsilon, float *out, size_t n) {
  float lanes[LANES] = {0};
  for (size_t i = 0; i < n; i++) lanes[i % LANES] = fmaf(x[i], x[i], lanes[i % LANES]);
  float factor = 1.0f / sqrtf(scalar_sum16(lanes) / (float)n + epsilon);
  for (size_t i = 0; i < n; i++) out[i] = x[i] * factor * weight[i];
}

static void rope(float *x, size_t heads, size_t size, const float *cosine, const float *sine) {
  size_t half = size / 2;
  for (size_t h = 0; h < heads; h++, x += size) {
    for (size_t i = 0; i < half; i++) {
      float a = x[i], b = x[i + half];
      x[i] = fmaf(a, cosine[i], -(b * sine[i]));
      x[i + half] = fmaf(b, cosine[i], a * sine[i]);
    }
  }
}

static void swiglu(const float *gate, const float *up, float *out, size_t n) {
  for (size_t i = 0; i < n; i++) out[i] = gate[i] / (1.0f + scalar_exp(-gate[i])) * up[i];
}

static double exp_sum(const float *x, size_t n, float highest, float factor, float *out) {
  double total = 0;
  for (size_t begin = 0; begin < n; begin += 1024) {
    float lanes[LANES] = {0};
    for (size_t i = begin; i < n && i < begin + 1024; i++) {
      float e = scalar_exp((x[i] - highest) * factor);
      lanes[i % LANES] = lanes[i % LANES] + e;
      if (out) out[i] = e;
    }
    total += scalar_sum16(lanes);
  }
  return total;
}

static uint64_t read_all(const void *data, size_t bytes) {
  uint64_t total = 0;
  for (size_t i = 0; i < bytes / 8; i++) total ^= ((const uint64_t *)data)[i];
  return total;
}

static int32_t integer_peak(size_t n) {
  int32_t total = 0;
  for (size_t i = 0; i < n; i++) total += (int32_t)(i & 7) * 3;
  return total;
}

static void add(float *x, const float *y, size_t n) {
  for (size_t i = 0; i < n; i++) x[i] = x[i] + y[i];
}

static void lora_shrink(const graft_lora *w, const float *x, size_t ldx, size_t rows, float *u, size_t ldu) {
  size_t padded = w->is_bf16 ? (w->columns + 1) / 2 * 2 : w->columns;
  for (size_t rank = 0; rank < w->rank; rank++) {
    size_t first = rank / LANES * LANES;
    size_t width = w->rank - first < LANES ? w->rank - first : LANES, lane = rank - first;
    for (size_t row = 0; row < rows; row++) {
      float sums[2] = {0};
      for (size_t i = 0; i < w->columns; i++) {
        float weight = w->is_bf16 ? bf16_to_float(((const uint16_t *)w->a)[first * padded + (i / 2 * width + lane) * 2 + i % 2])
                                  : ((const float *)w->a)[first * padded + i * width + lane];
        sums[i % 2] = fmaf(weight, x[row * ldx + i], sums[i % 2]);
      }
      u[row * ldu + rank] = sums[0] + sums[1];
    }
  }
}

static void lora_expand(const graft_lora *w, const float *u, size_t ldu, size_t rows, float scale,
                        const float *magnitude, float *y, size_t ldy, size_t group_begin, size_t group_end) {
  size_t padded = w->is_bf16 ? (w->rank + 1) / 2 * 2 : w->rank;
  for (size_t output = group_begin * LANES; output < group_end * LANES; output++) {
    size_t first = output / LANES * padded * LANES, lane = output % LANES;
    float factor = magnitude ? magnitude[output] * scale : scale;
    for (size_t row = 0; row < rows; row++) {
      float sums[2] = {0};
      for (size_t i = 0; i < w->rank; i++) {
        float weight = w->is_bf16 ? bf16_to_float(((const uint16_t *)w->b)[first + (i / 2 * LANES + lane) * 2 + i % 2])
                                  : ((const float *)w->b)[first + i * LANES + lane];
        sums[i % 2] = fmaf(weight, u[row * ldu + i], sums[i % 2]);
      }
      float *out = y + row * ldy + output;
      *out = fmaf(factor, sums[0] + sums[1], *out);
    }
  }
}

static void nf4_row_squares(const graft_matrix *w, float *out, size_t group_begin, size_t group_end) {
  size_t blocks = w->columns / w->block;
  for (size_t row = group_begin * LANES; row < group_end * LANES; row++) {
    const uint8_t *group = (const uint8_t *)w->data + row / LANES * w->columns * 8;
    float total = 0;
    for (size_t b = 0; b < blocks; b++) {
      float sum = 0, scale = w->scale[(row / LANES * blocks + b) * LANES + row % LANES];
      for (size_t column = b * w->block; column < (b + 1) * w->block; column++) {
        float weight = nf4_weight(group, column, row % LANES);
        sum = fmaf(weight, weight, sum);
      }
      total = fmaf(scale * scale, sum, total);
    }
    out[row] = total;
  }
}

static void add_scaled(float *y, const float *x, const float *factor, float scale, size_t n) {
  for (size_t i = 0; i < n; i++) y[i] = fmaf(factor[i] * scale, x[i], y[i]);
}

static float kv_element(const void *head, size_t i, graft_kv_type type) {
  switch (type) {
    case GRAFT_KV_F16: return half_to_float(((const uint16_t *)head)[i]);
    case GRAFT_KV_INT8: return ((const int8_t *)head)[i];
    default: return ((const float *)head)[i];
  }
}

static void store_kv_element(float x, void *head, size_t i, graft_kv_type type, float inverse) {
  switch (type) {
    case GRAFT_KV_F16: ((uint16_t *)head)[i] = half_from_float(x); break;
    case GRAFT_KV_INT8: ((int8_t *)head)[i] = (int8_t)scalar_round(x * inverse); break;
    default: ((float *)head)[i] = x;
  }
}

static void store_kv(const float *keys, const float *values, graft_kv_type type, size_t head_size, size_t slot,
                     void *head) {
  float highest[2] = {largest_magnitude(keys, head_size), largest_magnitude(values, head_size)};
  for (size_t i = 0; i < head_size; i++) {
    store_kv_element(keys[i], head, i * KV + slot, type, scalar_inverse(highest[0], KV_BYTE_HIGHEST));
    store_kv_element(values[i], head, head_size * KV + slot * head_size + i, type,
                     scalar_inverse(highest[1], KV_BYTE_HIGHEST));
  }
  if (type != GRAFT_KV_INT8) return;
  float *scales = kv_scales(head, head_size) + slot;
  for (int i = 0; i < 2; i++) scales[i * KV] = highest[i] * (1 / KV_BYTE_HIGHEST);
}

static void attend(const graft_attention *a, const float *query, size_t offset, size_t length, float *out) {
  size_t size = a->head_size, values = size * KV;
  for (size_t h = 0; h < a->heads_per_group; h++) {
    const float *q = query + h * size;
    float *o = out + h * size;
    float highest = -INFINITY;
    float sums[KV] = {0};
    for (size_t i = 0; i < size; i++) o[i] = 0;
    for (size_t begin = 0; begin < length; begin += KV) {
      const char *head = (const char *)a->blocks[begin / KV] + offset;
      const float *scales = a->type == GRAFT_KV_INT8 ? kv_scales(head, size) : 0;
      float p[KV];
      float block_highest = -INFINITY;
      for (size_t t = 0; t < KV; t++) {
        float score = 0;
        for (size_t i = 0; i < size; i++) score = fmaf(kv_element(head, i * KV + t, a->type), q[i], score);
        if (scales) score = score * scales[t];
        p[t] = begin + t < length ? score * a->scale : -INFINITY;
        block_highest = p[t] > block_highest ? p[t] : block_highest;
      }
      float before = highest;
      highest = block_highest > highest ? block_highest : highest;
      float keep = scalar_exp(before - highest);
      for (size_t t = 0; t < KV; t++) {
        p[t] = scalar_exp(p[t] - highest);
        sums[t] = fmaf(sums[t], keep, p[t]);
        if (scales) p[t] = p[t] * scales[KV + t];
      }
      for (size_t i = 0; i < size; i++) o[i] = o[i] * keep;
      size_t count = length - begin < KV ? length - begin : KV;
      for (size_t t = 0; t < count; t++) {
        for (size_t i = 0; i < size; i++) o[i] = fmaf(p[t], kv_element(head, values + t * size + i, a->type), o[i]);
      }
    }
    float folded[LANES];
    for (size_t i = 0; i < LANES; i++) folded[i] = sums[i] + sums[i + LANES];
    float inverse = 1.0f / scalar_sum16(folded);
    for (size_t i = 0; i < size; i++) o[i] = o[i] * inverse;
  }
}

const graft_kernels graft_scalar_kernels = {
    .name = "scalar",
    .nf4_product = nf4_product,
    .quantize = quantize,
    .nf4_integer_product = nf4_integer_product,
    .int8_integer_product = int8_integer_product,
    .read_all = read_all,
    .integer_peak = integer_peak,
    .integer_peak_operations = 2,
    .dense_product = dense_product,
    .lora_shrink = lora_shrink,
    .lora_expand = lora_expand,
    .nf4_row_squares = nf4_row_squares,
    .add_scaled = add_scaled,
    .rms_norm = rms_norm,
    .rope = rope,
    .swiglu = swiglu,
    .exp_sum = exp_sum,
    .add = add,
    .store_kv = store_kv,
    .attend = attend,
};
