#!/bin/bash
# Cycles of the vector code around AMX's tile instructions, by llvm-mca's model of Sapphire Rapids, which does not know the
# tile instructions themselves. Needs llvm-mca 16 or newer (Debian's llvm-19 has it) as MCA.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$(mktemp)
trap 'rm -f "$out"' EXIT
clang -O3 -mllvm -unroll-threshold=100000 -mllvm -unroll-max-count=64 -w -I Sources/CKernels -I Sources/CKernels/include \
  -S scripts/bench/tile_estimate.c -o "$out"
"${MCA:-llvm-mca-19}" -mcpu=sapphirerapids -iterations=100 -instruction-info=false -resource-pressure=false "$out" |
  awk '/Code Region/ { name = $5 } /^Instructions:/ { count = $2 } /^Total Cycles:/ {
    printf "%-26s %4d instructions %6.1f cycles\n", name, count / 100, $3 / 100 }'
