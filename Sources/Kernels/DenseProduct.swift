import CKernels
import COpenBLAS

/// A view of row-major f32 values: a pointer and the distance between rows.
public struct Rows: @unchecked Sendable {
  // @unchecked: a pointer and a number; whoever made the view sees to the memory.
  public let pointer: UnsafeMutablePointer<Float>
  public let stride: Int

  public init(_ pointer: UnsafeMutablePointer<Float>, stride: Int) {
    self.pointer = pointer
    self.stride = stride
  }

  /// The view that begins at another row and column.
  public func from(row: Int = 0, column: Int = 0) -> Rows { Rows(pointer + row * stride + column, stride: stride) }
}

/// OpenBLAS's f32 product. A call runs on the caller's thread alone, and its result depends on the shapes and the
/// machine only, so a product that is cut up the same way each time is the same bit for bit.
///
/// Its order of summation depends on the shape, so nothing a request can observe is computed with it.
enum DenseProduct {
  /// OpenBLAS's own threads would compete with the pool's.
  private static let singleThreaded: Void = graft_sgemm_threads(1)

  /// c = alpha · op(a) · op(b) + beta · c; op(a): [m, k], op(b): [k, n].
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

extension Compute {
  /// c = alpha · op(a) · op(b) + beta · c in f32; op(a): [m, k], op(b): [k, n], c: [m, n].
  ///
  /// Shared out in pieces that depend on the shape alone, so the number of threads changes no bit.
  public func multiply(
    m: Int, n: Int, k: Int, alpha: Float = 1, _ a: Rows, transposedA: Bool = false, _ b: Rows,
    transposedB: Bool = false, beta: Float = 0, into c: Rows
  ) {
    guard m > 0, n > 0 else { return }
    let pieces = 8
    if m >= n {
      let size = Swift.max(32, (m + pieces - 1) / pieces)
      pool.run(parts: (m + size - 1) / size) { part in
        let first = part * size
        DenseProduct.multiply(
          m: Swift.min(size, m - first), n: n, k: k, alpha: alpha,
          transposedA ? a.from(column: first) : a.from(row: first), transposed: transposedA, b, transposed: transposedB,
          beta: beta, into: c.from(row: first))
      }
    } else {
      let size = Swift.max(32, ((n + pieces - 1) / pieces + 15) / 16 * 16)
      pool.run(parts: (n + size - 1) / size) { part in
        let first = part * size
        DenseProduct.multiply(
          m: m, n: Swift.min(size, n - first), k: k, alpha: alpha, a, transposed: transposedA,
          transposedB ? b.from(row: first) : b.from(column: first), transposed: transposedB, beta: beta,
          into: c.from(column: first))
      }
    }
  }
}
