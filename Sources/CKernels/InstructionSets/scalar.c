// Plain C: what each kernel means, the reference for the other instruction sets, and what machines without them run.
#include "CKernels.h"

#include "../Common/vector.inc"

// What the kernels of training expect.
typedef const uint8_t *codes16;

INLINE codes16 load_codes(const uint8_t *chunk) { return chunk; }

INLINE vec decode_column(codes16 codes, int column) {
  vec weights;
  for (int lane = 0; lane < LANES; lane++) {
    uint8_t byte = codes[lane * 4 + column % 4];
    weights[lane] = graft_nf4_values[column < 4 ? byte & 15 : byte >> 4];
  }
  return weights;
}

enum { MULTIPLY_ROWS = 4 };

#include "../Products/scalar.inc"
#include "../LowRank/scalar.inc"
#include "../Attention/scalar.inc"
#include "../Elementwise/scalar.inc"
#include "../Benchmark/scalar.inc"
#include "training_kernels.inc"
#include "table.inc"

const graft_kernels graft_scalar_kernels = KERNEL_TABLE("scalar");
