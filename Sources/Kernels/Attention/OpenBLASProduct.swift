import COpenBLAS

/// OpenBLAS's product of f32 matrices. A call runs on the caller's thread alone.
///
/// OpenBLAS chooses the order of summation by the shapes, so equal shapes give equal bits on one machine, and other shapes
/// may not. Training's attention uses it, where the shapes depend on one row of training data alone, and
/// `LowRankApproximation`.
enum OpenBLASProduct {
  /// OpenBLAS's own threads would compete with the pool's. Evaluated once.
  private static let singleThreaded: Void = graft_sgemm_threads(1)

  /// c = alpha · op(a) · op(b) + beta · c.
  ///
  /// op(a): [m, k], op(b): [k, n], c: [m, n]; op transposes where asked to.
  @inline(__always)
  static func multiply(
    m: Int, n: Int, k: Int, alpha: Float, _ a: Rows, transposed transposeA: Bool, _ b: Rows,
    transposed transposeB: Bool, beta: Float, into c: Rows
  ) {
    _ = singleThreaded
    graft_sgemm(
      transposeA ? 1 : 0, transposeB ? 1 : 0, Int32(m), Int32(n), Int32(k), alpha, a.pointer, Int32(a.stride),
      b.pointer, Int32(b.stride), beta, c.pointer, Int32(c.stride))
  }
}

/// OpenBLAS's version, with the processor whose kernels it chose.
public var openBLASVersion: String {
  // "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH NO_AFFINITY Zen MAX_THREADS=64"
  let configuration = String(cString: openblas_get_config()).split(separator: " ")
  return "\(configuration.dropFirst().first ?? "unknown") (\(String(cString: openblas_get_corename())))"
}
