// The backward pass's loops without a vector unit, and the choice among the instruction sets.
#include "CKernels.h"

#include <string.h>

static void decode_chunk(const uint8_t *chunk, const float *scale, float *out, size_t ldo) {
  for (size_t lane = 0; lane < GRAFT_LANES; lane++) {
    for (size_t j = 0; j < 4; j++) {
      uint8_t byte = chunk[lane * 4 + j];
      out[j * ldo + lane] = graft_nf4_values[byte & 15] * scale[lane];
      out[(j + 4) * ldo + lane] = graft_nf4_values[byte >> 4] * scale[lane];
    }
  }
}

enum { TILE_ROWS = 4 };
#include "training.inc"

static const graft_training_kernels scalar_kernels = TRAINING_KERNELS;

#if defined(__x86_64__)
extern const graft_training_kernels graft_training_avx2, graft_training_avx512;
#endif

const graft_training_kernels *graft_training_kernels_for(graft_level level) {
  if (!graft_kernels_for(level)) return 0;
  switch (level) {
#if defined(__x86_64__)
    case GRAFT_AVX2: return &graft_training_avx2;
    case GRAFT_AVX512: return &graft_training_avx512;
#endif
    default: return &scalar_kernels;
  }
}
