// What to say when a mapped file loses pages that are in use: reading one is SIGBUS, from which nothing can go on.
#pragma once

#include <stddef.h>

/// Remembers that `bytes` bytes from `start` on are a file's, until `graft_forget_mapping` of what is returned.
/// Returns null if there is no memory for it; the range is then only not named.
void *graft_remember_mapping(const void *start, size_t bytes, const char *path);
void graft_forget_mapping(void *mapping);

/// From now on, a bus error inside a remembered range writes one line that names the file to standard error and ends the
/// process with exit code 1. Any other goes the way it would have gone.
void graft_exit_on_bus_error(void);
