// zlib, with the one macro that Swift cannot import as a function.
#pragma once

#include <zlib.h>

// Begins compression into the gzip format (RFC 1952) with the best ratio.
static inline int graft_gzip_begin(z_stream *stream) {
  enum { WINDOW_BITS = 15, GZIP = 16, MEMORY_LEVEL = 9 };
  return deflateInit2(stream, Z_BEST_COMPRESSION, Z_DEFLATED, WINDOW_BITS + GZIP, MEMORY_LEVEL, Z_DEFAULT_STRATEGY);
}
