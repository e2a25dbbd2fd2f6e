// Explains a bus error. If a mapped file loses pages that are in use, reading one of them raises SIGBUS, after which the
// program cannot continue.
#pragma once

#include <stddef.h>

/// Records that `bytes` bytes from `start` are mapped from the file at `path`, of which the first 1,023 bytes are kept.
/// Returns a handle for `graft_forget_mapping`, or null if there is no memory for the record: a bus error in the range is
/// then not explained.
void *graft_remember_mapping(const void *start, size_t bytes, const char *path);
/// Deletes a record, before or after the range is unmapped. `mapping` may be null.
void graft_forget_mapping(void *mapping);

/// Installs a handler. From then on, a bus error in a recorded range writes one line that names the file to standard error,
/// and ends the process with exit code 1. A bus error anywhere else has the effect that it had before.
void graft_exit_on_bus_error(void);
