// How AMX multiplies bf16 numbers, in plain C (Intel Software Developer's Manual, TDPBF16PS; checked against an Emerald
// Rapids processor over ordinary, wide and denormal exponents).
#pragma once

#include "scalar_math.h"

// Denormal numbers are read and written as zero.
static inline float flush_denormal(float x) {
  unsigned bits;
  memcpy(&bits, &x, 4);
  if ((bits & 0x7F800000) == 0) bits &= 0x80000000;
  memcpy(&x, &bits, 4);
  return x;
}

static inline float bf16_flushed(uint16_t x) { return flush_denormal(bf16_to_float(x)); }

// sum + the products of `pairs` pairs: the first values of the pairs, and the second ones, are two chains of fused
// multiply-adds; the chains are added, then the sum. Pair k of b is at b[k * ldb].
static inline float tile_dot(float sum, const uint16_t *a, const uint16_t *b, size_t ldb, size_t pairs) {
  float first = 0, second = 0;
  for (size_t k = 0; k < pairs; k++) {
    first = flush_denormal(fmaf(bf16_flushed(a[2 * k]), bf16_flushed(b[k * ldb]), first));
    second = flush_denormal(fmaf(bf16_flushed(a[2 * k + 1]), bf16_flushed(b[k * ldb + 1]), second));
  }
  return flush_denormal(flush_denormal(first + second) + flush_denormal(sum));
}

// To the nearest bf16, ties to even; NaN stays NaN.
static inline uint16_t bf16_from_float(float x) {
  unsigned bits;
  memcpy(&bits, &x, 4);
  if ((bits & 0x7FFFFFFF) > 0x7F800000) return (uint16_t)(bits >> 16 | 0x40);
  return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static inline uint16_t bf16_without_denormals(float x) { return bf16_from_float(flush_denormal(x)); }
