// The reference for AMX: the scalar kernels, with training's products in bf16.
#define TABLE graft_tile_reference_kernels
#define SET "tile-reference"
#define USES_TILES
#include "scalar.inc"
