#!/bin/bash
# Runs with AMX's tile registers emulated by AVX-512 (Tests/Emulated/vector_tiles.h), on a processor with AVX-512 VNNI and BF16:
# the comparison of the kernels with their references, then all Swift tests with `amx` as the fastest instruction set. That
# takes 15 to 20 minutes. The copy of the sources stays in .build-amx, and its program can be tried:
# .build-amx/source/.build-test/release/graft.
set -euo pipefail
cd "$(dirname "$0")/.."
for flag in avx512_vnni avx512_bf16; do
  grep -qw "$flag" /proc/cpuinfo || { echo "this processor has no $flag"; exit 1; }
done
source=.build-amx/source
mkdir -p "$source"
rm -rf "$source/Sources" "$source/Tests"
# With the files' times, so that a second run builds little.
git ls-files -z --cached --others --exclude-standard | tar --null -T - -cf - | tar -xf - -C "$source"
ln -sf "$PWD"/models/*.gguf "$source/models/"
kernels=$source/Sources/CKernels
sed -i 's|#include "avx512.inc"|#include "../../../Tests/Emulated/vector_tiles.h"\n&|' "$kernels/InstructionSets/amx.c"
sed -i 's|return has_vnni() && has_tile_registers() && may_use_tile_registers();|return has_vnni();|
  s|^static int has_tile_registers|__attribute__((unused)) &|; s|^static int may_use_tile_registers|__attribute__((unused)) &|' \
  "$kernels/InstructionSets/select.c"

objects=.build-amx/objects
mkdir -p "$objects"
flags=(-w -O2 -I "$kernels/include" -I "$kernels")
for set in scalar tile_reference avx512 vnni amx; do
  clang "${flags[@]}" -c "$kernels/InstructionSets/$set.c" -o "$objects/$set.o"
done
clang "${flags[@]}" -I "$source/Sources" Tests/Emulated/compare.c "$kernels/Common/nf4_values.c" "$objects"/*.o -lm \
  -o .build-amx/compare
.build-amx/compare

cd "$source"
build=(-c release -Xswiftc -enable-testing --scratch-path .build-test)
swift build "${build[@]}" --build-tests
.build-test/release/graft --version | grep 'kernels: amx'
swift test "${build[@]}" --skip-build --disable-xctest
