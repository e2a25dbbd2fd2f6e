// Scalar helpers. The scalar kernels use them, and so do the vector kernels for elements that do not fill a vector. An
// instruction set's file includes this after it has set its target, so that fmaf is one instruction if the set has one.
#pragma once

#include "CKernels.h"

#include <math.h>
#include <string.h>

// Products and sums are fused only where the code says fma. Otherwise the bits would depend on the compiler. This holds
// for the rest of the translation unit.
#pragma STDC FP_CONTRACT OFF

enum { LANES = GRAFT_LANES, KV_BLOCK = GRAFT_KV_BLOCK };

// MARK: exponential

#define EXP_LOG2E 1.44269504088896341f
#define EXP_LN2_HIGH 0.693359375f
#define EXP_LN2_LOW -2.12194440e-4f
#define EXP_MINIMUM -87.0f
#define EXP_MAXIMUM 88.0f
// 1.5 * 2^23: after adding it, the lowest bits of a float hold the nearest integer.
#define ROUNDING_MAGIC 12582912.0f

// exp(x) by reducing x to |r| <= ln2 / 2 and a polynomial of degree 6. The relative error is below 2e-7 for x in
// [EXP_MINIMUM, EXP_MAXIMUM]; below, the result is 0; above, it is exp(EXP_MAXIMUM). `exp16` in vector.inc does the same
// operations on 16 lanes.
static inline float scalar_exp(float x) {
  float clamped = x < EXP_MINIMUM ? EXP_MINIMUM : x;
  clamped = clamped > EXP_MAXIMUM ? EXP_MAXIMUM : clamped;
  float shifted = fmaf(clamped, EXP_LOG2E, ROUNDING_MAGIC);
  float n = shifted - ROUNDING_MAGIC;
  float r = fmaf(n, -EXP_LN2_HIGH, clamped);
  r = fmaf(n, -EXP_LN2_LOW, r);
  int power_bits;
  memcpy(&power_bits, &shifted, 4);
  power_bits = (int)((unsigned)power_bits << 23) + (127 << 23);
  float p = 1.9875691500e-4f;
  p = fmaf(p, r, 1.3981999507e-3f);
  p = fmaf(p, r, 8.3334519073e-3f);
  p = fmaf(p, r, 4.1665795894e-2f);
  p = fmaf(p, r, 1.6666665459e-1f);
  p = fmaf(p, r, 5.0000001201e-1f);
  p = fmaf(p, r * r, r) + 1.0f;
  float power;
  memcpy(&power, &power_bits, 4);
  float result = p * power;
  return x < EXP_MINIMUM ? 0.0f : result;
}

// tanh(x), with an absolute error below 2e-7. `tanh16` in vector.inc does the same operations on 16 lanes.
static inline float scalar_tanh(float x) {
  float e = scalar_exp(-2.0f * fabsf(x));
  return copysignf((1.0f - e) / (1.0f + e), x);
}

// GELU's approximation by tanh is x / (1 + exp(-z)) with z = GELU_SCALE * (x + GELU_CUBIC * x^3).
#define GELU_SCALE 1.5957691216057308f
#define GELU_CUBIC 0.044715f
static inline float scalar_gelu_exponent(float x) { return x * GELU_SCALE * fmaf(x * x, GELU_CUBIC, 1.0f); }

// 2^x for x of at most 0, by a polynomial of degree 4 on |r| <= 1/2 with a relative error below 3e-6. Below EXP2_MINIMUM,
// the result is 2^EXP2_MINIMUM. For weights that are rounded to fewer bits afterwards. `exp2_16` in vector.inc does the same
// operations on 16 lanes.
#define EXP2_MINIMUM -120.0f
// ROUNDING_MAGIC and the bias of a float's exponent: the lowest bits hold the exponent of the power of two.
#define EXP2_MAGIC (ROUNDING_MAGIC + 127.0f)
static inline float scalar_exp2(float x) {
  float clamped = x < EXP2_MINIMUM ? EXP2_MINIMUM : x;
  float shifted = clamped + EXP2_MAGIC;
  float r = clamped - (shifted - EXP2_MAGIC);
  unsigned bits;
  memcpy(&bits, &shifted, 4);
  bits <<= 23;
  float power, p = 9.5701013e-3f;
  memcpy(&power, &bits, 4);
  p = fmaf(p, r, 5.5917859e-2f);
  p = fmaf(p, r, 2.4024744e-1f);
  p = fmaf(p, r, 6.9312179e-1f);
  p = fmaf(p, r, 9.9999928e-1f);
  return p * power;
}

// MARK: sums and rounding

// The sum of 16 lanes, in the order that all kernels use: the upper half is added to the lower, until one is left.
static inline float scalar_sum16(const float *v) {
  float t[8];
  for (int i = 0; i < 8; i++) t[i] = v[i] + v[i + 8];
  for (int i = 0; i < 4; i++) t[i] = t[i] + t[i + 4];
  for (int i = 0; i < 2; i++) t[i] = t[i] + t[i + 2];
  return t[0] + t[1];
}

// The nearest integer, ties to even, of a value that fits 16 bits.
static inline short scalar_round(float x) {
  float shifted = x + ROUNDING_MAGIC, magic = ROUNDING_MAGIC;
  unsigned bits, zero;
  memcpy(&bits, &shifted, 4);
  memcpy(&zero, &magic, 4);
  return (short)(int)(bits - zero);
}

// The factor that scales a maximum magnitude to `limit`; 0 if the magnitude is 0, so small that the factor is infinite,
// or NaN.
static inline float scalar_inverse(float maximum, float limit) {
  float inverse = maximum > 0 ? limit / maximum : 0;
  return inverse < INFINITY ? inverse : 0;
}

// max|x|. Without their sign, floats compare as integers in the order of the numbers, and infinity and NaN are above all
// numbers: so a value that is not finite is found.
static inline float largest_magnitude(const float *x, size_t n) {
  uint32_t maximum_bits = 0;
  for (size_t i = 0; i < n; i++) {
    uint32_t bits;
    memcpy(&bits, x + i, 4);
    bits &= 0x7FFFFFFF;
    maximum_bits = bits > maximum_bits ? bits : maximum_bits;
  }
  float maximum;
  memcpy(&maximum, &maximum_bits, 4);
  return maximum;
}

// MARK: key-value cache

#define KV_BYTE_MAXIMUM 127.0f
// The maximum magnitude of an int16 key or value, and of the weight of a value.
#define KV_SHORT_MAXIMUM 4095.0f
#define WEIGHT_MAXIMUM 2047.0f
// Positions whose int16 values are summed exactly, as integers: a quarter of a span.
enum { KV_QUARTER = GRAFT_SPAN / 4 };

// The maximum magnitude of a query's integers: its products with a key sum up to less than 2^31.
static inline float query_maximum(size_t head_size) {
  size_t limit = 0x7FFFFFFF / (4095 * head_size);
  return limit < 2047 ? (float)limit : 2047.0f;
}

// Where the scales of a head's int8 or int16 keys begin in a block; the scales of its values follow.
static inline float *kv_scales(const void *head, size_t head_size, graft_kv_type type) {
  return (float *)((char *)head + (type == GRAFT_KV_INT16 ? 4 : 2) * head_size * KV_BLOCK);
}

// MARK: 16-bit floats

static inline float bf16_to_float(unsigned short x) {
  unsigned bits = (unsigned)x << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

// The maximum of half precision (IEEE 754 binary16).
#define HALF_MAXIMUM 65504.0f

static inline float half_to_float(unsigned short half) {
  unsigned sign = (unsigned)(half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 1023;
  if (exponent == 0) {
    float value = (float)fraction * 5.9604644775390625e-8f;  // 2^-24
    return sign ? -value : value;
  }
  unsigned bits = sign | (exponent == 31 ? 0x7F800000u : (exponent + 112) << 23) | fraction << 13;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

// To nearest, ties to even; magnitudes beyond the maximum become the maximum; NaN stays NaN.
static inline unsigned short half_from_float(float x) {
  unsigned bits;
  memcpy(&bits, &x, 4);
  unsigned short sign = (unsigned short)(bits >> 16 & 0x8000);
  bits &= 0x7FFFFFFF;
  if (bits > 0x7F800000) return (unsigned short)(sign | 0x7E00 | (bits >> 13 & 0x1FF));
  float magnitude;
  memcpy(&magnitude, &bits, 4);
  if (magnitude >= HALF_MAXIMUM) return (unsigned short)(sign | 0x7BFF);
  if (bits < 113u << 23) {  // subnormal: after adding 1/2, the lowest bits hold the nearest multiple of 2^-24
    float shifted = magnitude + 0.5f;
    memcpy(&bits, &shifted, 4);
    return (unsigned short)(sign | (bits & 0x7FF));
  }
  bits += 0xFFF + (bits >> 13 & 1);
  return (unsigned short)(sign | (bits - (112u << 23)) >> 13);
}
