// The reference for AMX.
#define TABLE graft_tile_reference_kernels
#define SET "tile-reference"
#define USES_TILES
#include "scalar.inc"
