// Scalar helpers shared by the reference and the tails of the vector code.
#pragma once

#include "CKernels.h"

#include <math.h>
#include <string.h>

#pragma STDC FP_CONTRACT OFF

// exp(x) by range reduction to |r| <= ln2/2 and a polynomial of degree 6; relative error below 2e-7 for
// x in [-87, 88], 0 below. The vector version in vector.inc does the same operations lane by lane.
#define EXP_LOG2E 1.44269504088896341f
#define EXP_LN2_HIGH 0.693359375f
#define EXP_LN2_LOW -2.12194440e-4f
#define EXP_MAGIC 12582912.0f  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
#define EXP_LOWEST -87.0f
#define EXP_HIGHEST 88.0f

static inline float scalar_exp(float x) {
  float clamped = x < EXP_LOWEST ? EXP_LOWEST : x;
  clamped = clamped > EXP_HIGHEST ? EXP_HIGHEST : clamped;
  float shifted = fmaf(clamped, EXP_LOG2E, EXP_MAGIC);
  float n = shifted - EXP_MAGIC;
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
  return x < EXP_LOWEST ? 0.0f : result;
}

// The order in which 16 lanes are added up: halves on halves.
static inline float scalar_sum16(const float *v) {
  float t[8];
  for (int i = 0; i < 8; i++) t[i] = v[i] + v[i + 8];
  for (int i = 0; i < 4; i++) t[i] = t[i] + t[i + 4];
  for (int i = 0; i < 2; i++) t[i] = t[i] + t[i + 2];
  return t[0] + t[1];
}

// Nearest integer, ties to even, of a value within 4,095 or so.
static inline short scalar_round(float x) {
  float shifted = x + EXP_MAGIC, magic = EXP_MAGIC;
  unsigned bits, zero;
  memcpy(&bits, &shifted, 4);
  memcpy(&zero, &magic, 4);
  return (short)(int)(bits - zero);
}

// What scales values of at most `highest` to at most `limit`; 0 where that is no number.
static inline float scalar_inverse(float highest, float limit) {
  float inverse = highest > 0 ? limit / highest : 0;
  return inverse < INFINITY ? inverse : 0;
}

#define KV_BYTE_HIGHEST 127.0f

// Where the scales of a head's int8 keys begin in a block; those of its values follow.
static inline float *kv_scales(const void *head, size_t head_size) {
  return (float *)((char *)head + 2 * head_size * GRAFT_KV_BLOCK);
}

static inline float bf16_to_float(unsigned short x) {
  unsigned bits = (unsigned)x << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

// Half precision (IEEE 754 binary16).
#define HALF_HIGHEST 65504.0f

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

// To nearest, ties to even; beyond the greatest value, to that; not a number stays so.
static inline unsigned short half_from_float(float x) {
  unsigned bits;
  memcpy(&bits, &x, 4);
  unsigned short sign = (unsigned short)(bits >> 16 & 0x8000);
  bits &= 0x7FFFFFFF;
  if (bits > 0x7F800000) return (unsigned short)(sign | 0x7E00 | (bits >> 13 & 0x1FF));
  float magnitude;
  memcpy(&magnitude, &bits, 4);
  if (magnitude >= HALF_HIGHEST) return (unsigned short)(sign | 0x7BFF);
  if (bits < 113u << 23) {  // subnormal: adding 1/2 leaves the multiple of 2^-24 in the low bits
    float shifted = magnitude + 0.5f;
    memcpy(&bits, &shifted, 4);
    return (unsigned short)(sign | (bits & 0x7FF));
  }
  bits += 0xFFF + (bits >> 13 & 1);
  return (unsigned short)(sign | (bits - (112u << 23)) >> 13);
}
