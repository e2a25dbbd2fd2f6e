// OpenBLAS's f32 product, behind inline functions that hide CBLAS's enumerations.
#pragma once

#include <cblas.h>

/// C = alpha * op(A) * op(B) + beta * C, row-major; op transposes where the flag is not 0. [m, k], [k, n], [m, n].
static inline void graft_sgemm(int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float *a,
                               int lda, const float *b, int ldb, float beta, float *c, int ldc) {
  cblas_sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans, m, n, k,
              alpha, a, lda, b, ldb, beta, c, ldc);
}

/// How many threads one call may use; the process's setting.
static inline void graft_sgemm_threads(int count) { openblas_set_num_threads(count); }
