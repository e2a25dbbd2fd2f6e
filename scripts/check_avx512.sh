#!/bin/bash
# Compares the AVX-512, VNNI and AMX kernels with their references on machines that lack these instructions, by means of
# SIMDe's portable versions of the intrinsics (Debian's libsimde-dev, which `make packages` installs), and of
# Tests/Emulated/tiles.h for the tile registers.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
kernels=Sources/CKernels
flags=(-w -O1 -mavx2 -mfma -mf16c -I "$kernels/include")

# A copy of the source with three changes: the intrinsics come from SIMDe, functions get no AVX-512 target, which this
# compiler would otherwise use instructions of, and a benchmark's assembler statement names no AVX-512 register.
cp -r "$kernels" "$out/CKernels"
find "$out/CKernels" -name '*.inc' -exec sed -i '
  s|#include <immintrin.h>|#include <simde/x86/avx512.h>\n#include <simde/x86/f16c.h>\n#include "missing.h"\n#include "tiles.h"|
  /pragma clang attribute/d
  s|"+x"(other)|"+m"(other)|' {} +
for set in avx512 vnni amx; do
  clang "${flags[@]}" -DSIMDE_ENABLE_NATIVE_ALIASES -I Tests/Emulated -I "$out" -c "$out/CKernels/InstructionSets/$set.c" \
    -o "$out/$set.o"
done
clang "${flags[@]}" Tests/Emulated/compare.c "$kernels/InstructionSets/scalar.c" \
  "$kernels/InstructionSets/tile_reference.c" "$kernels/Common/nf4_values.c" \
  "$out/avx512.o" "$out/vnni.o" "$out/amx.o" -lm -o "$out/compare"
"$out/compare"
