#!/bin/bash
# Holds the AVX-512 and VNNI kernels to the scalar reference on machines without such instructions, through SIMDe's
# portable forms of their intrinsics (Debian's libsimde-dev, which make packages installs).
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
kernels=Sources/CKernels

# The source as it stands, but for the target that this compiler would then take for granted, and the assembler
# statement of a benchmark.
portable='s|#include <immintrin.h>|#include <simde/x86/avx512.h>\n#include <simde/x86/f16c.h>\n#include "missing.h"|
  /pragma clang attribute/d; s|"+x"(other)|"+m"(other)|'
for file in integer.inc vector.inc lora.inc attention.inc math.h; do sed "$portable" "$kernels/$file" > "$out/$file"; done
for variant in avx512 vnni; do
  { if [ "$variant" = vnni ]; then echo '#define GRAFT_HAS_VNNI'; fi; sed "$portable" "$kernels/avx512.c"; } > "$out/$variant.c"
  clang -w -O1 -mavx2 -mfma -mf16c -DSIMDE_ENABLE_NATIVE_ALIASES -I "$kernels/include" -I Tests/Emulated \
    -iquote "$out" -c "$out/$variant.c" -o "$out/$variant.o"
done
clang -w -O1 -mavx2 -mfma -mf16c -I "$kernels/include" -iquote "$kernels" Tests/Emulated/compare.c "$kernels/scalar.c" \
  "$kernels/values.c" "$out/avx512.o" "$out/vnni.o" -lm -o "$out/compare"
"$out/compare"
