// The vector code around the tile instructions of the AMX kernels, marked for llvm-mca; tile_estimate.sh compiles it.
#include "InstructionSets/amx.c"

#pragma clang attribute push(__attribute__((target(TARGET))), apply_to = function)
#define REGION(name, ...)                                       \
  void estimate_##name(void) {                                  \
    __asm__ volatile("# LLVM-MCA-BEGIN " #name : : : "memory"); \
    __VA_ARGS__;                                                \
    __asm__ volatile("# LLVM-MCA-END" : : : "memory");          \
  }

uint8_t codes[4096];
float totals[TILE_ROWS * LANES], scales_of_16[LANES], scores[KV_QUARTER];
float outputs[TILE_ROWS * 64];
int16_t numbers[8192];
int16_t rounded_weights[KV_QUARTER];
byte_tiles operand, operands[2];
byte_sums integer_products;
integer_query query_state, query_states[TILE_ROWS];
kv_quarter quarter;
ivec integer_weights_of_a_block[MAXIMUM_PAIRS];

REGION(decode_64_columns, nf4_tile_weights(codes, &operand, 64))
REGION(decode_64_bytes, int8_tile_weights((const int8_t *)codes, &operand, 64))
REGION(add_16_rows, {
  tile_sums s = {load(scales_of_16), scales_of_16, totals};
  add_tile_sums(&s, integer_products, 0.5f, TILE_ROWS, 1);
})
REGION(add_16_rows_of_bytes, {
  tile_sums s = {load(scales_of_16), scales_of_16, totals};
  add_tile_sums(&s, integer_products, 0.5f, TILE_ROWS, 0);
})
REGION(vnni_decode_64_columns, nf4_block_weights(codes, integer_weights_of_a_block, 64))
REGION(pack_16_rows_of_bytes, pack_right(numbers, 64, 0, TILE_ROWS, &operand))
REGION(join_16_rows_of_scores, for (size_t r = 0; r < TILE_ROWS; r++)
                                   store(scores + r * LANES, joined_sums(integer_products, r, 1) * load(scales_of_16)))
REGION(weights_of_128_positions, {
  quarter.count = QUARTER_BLOCKS;
  integer_weights(&quarter, scores, KV_QUARTER, &query_state, rounded_weights, 1);
})
REGION(pack_128_weights, for (size_t s = 0; s < 2; s++) pack_left(rounded_weights + s * BYTE_DEPTH, 0, operands + s))
REGION(join_16_rows_of_values, for (size_t r = 0; r < TILE_ROWS; r++) {
  float *o = outputs + r * 64;
  store(o, fma16(joined_sums(integer_products, r, 1), splat(query_states[r].weight_unit), load(o) * query_states[r].rescale));
})
#pragma clang attribute pop
