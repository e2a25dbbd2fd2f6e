// The innermost loops of the forward and backward pass, compiled once for each instruction set. README.md in the target's
// folder says how they are organised and how an instruction set is added.
//
// No kernel allocates memory, starts threads or has global state. Unless a comment says otherwise, pointers need only
// their type's alignment, memory that a kernel writes must not overlap memory that it reads, and lengths may be 0.
// Shapes are written [outer][inner], the inner index being contiguous; ld… is the number of values from the start of one
// row to the start of the next.
//
// A kernel has one order of operations, which its scalar version spells out: every instruction set gives the same bits,
// and a row gives the same bits alone and among others. Only training's products on AMX's tile registers, in bf16, are a
// second arithmetic.
#pragma once

#include "graft_forward.h"
#include "graft_layouts.h"
#include "graft_training.h"

#pragma clang assume_nonnull begin

/// The kernels of one instruction set.
typedef struct {
  const char *name;
  graft_forward_kernels forward;
  graft_training_kernels training;
} graft_kernels;

/// Instruction sets that kernels may be compiled for.
typedef enum {
  GRAFT_SCALAR = 0,  // plain C
  GRAFT_AVX2 = 1,    // AVX2, FMA, F16C, BMI2
  GRAFT_AVX512 = 2,  // AVX-512 F, BW, VL, DQ
  GRAFT_VNNI = 3,    // GRAFT_AVX512 and AVX-512 VNNI
  GRAFT_AMX = 4,     // GRAFT_VNNI, AVX-512 BF16, AMX TILE, BF16 and INT8
  GRAFT_TILE_REFERENCE = 5  // plain C with the arithmetic in which GRAFT_AMX trains
} graft_level;

/// The kernels for an instruction set, or null where this machine or this build does not have it. Never null for
/// GRAFT_SCALAR. The table is constant and lives as long as the program.
const graft_kernels *_Nullable graft_kernels_for(graft_level level);
/// Whether this build has kernels for the level, on whatever machine.
int graft_kernels_are_built(graft_level level);

/// Whether the processor has AMX and the system does not let this process use it.
int graft_tile_registers_are_refused(void);

/// The factor of integer products: NF4 values and activations are stored as multiples of 1/4095 of their maximum. The
/// sum of 64 products of two such integers fits 31 bits.
#define GRAFT_INTEGER_ONE 4095

/// The 16 values of the 4-bit NormalFloat type (Dettmers et al., 2023, appendix E), ascending.
extern const float graft_nf4_values[16];
/// The same times GRAFT_INTEGER_ONE, rounded to nearest.
extern const int16_t graft_nf4_integers[16];

/// Tells the processor that this thread spins, so that the other hardware thread of its core can use the core's units.
static inline void graft_pause(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

#pragma clang assume_nonnull end
