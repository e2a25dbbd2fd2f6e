// The reference for the other instruction sets, and what machines without them run.
#define TABLE graft_scalar_kernels
#define SET "scalar"
#include "scalar.inc"
