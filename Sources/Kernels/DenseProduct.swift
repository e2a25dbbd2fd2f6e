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
/// machine only, so a product of the same shape is the same bit for bit.
///
/// Its order of summation depends on the shape, so it serves attention alone, where the shape is that of one row of
/// training data.
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

extension Rows {
  /// As the product of dense matrices reads it.
  func operand(transposed: Bool) -> graft_dense {
    graft_dense(
      values: pointer, row_step: transposed ? 1 : stride, column_step: transposed ? stride : 1)
  }
}

/// What a product is put onto.
public enum Onto: Sendable {
  case nothing
  /// It is added to what is there.
  case sum
  /// It goes on with what is there, as if that had been its own sum so far: for sums over tokens, wherever a slab ends.
  case chain

  fileprivate var kernel: graft_onto {
    switch self {
    case .nothing: GRAFT_NOTHING
    case .sum: GRAFT_SUM
    case .chain: GRAFT_CHAIN
    }
  }
}

extension Compute {
  /// c = alpha · op(a) · op(b) in f32, or put onto c; op(a): [m, k], op(b): [k, n], c: [m, n].
  ///
  /// Neither threads nor cutting the product up by m or n change a bit, nor does cutting by k where it goes on with a
  /// chain.
  public func multiply(
    m: Int, n: Int, k: Int, alpha: Float = 1, _ a: Rows, transposedA: Bool = false, _ b: Rows,
    transposedB: Bool = false, onto: Onto = .nothing, into c: Rows
  ) {
    guard m > 0, n > 0 else { return }
    let function = kernels.training.multiply_dense!
    func piece(_ rows: Range<Int>, _ columns: Range<Int>) {
      let first = transposedA ? a.from(column: rows.lowerBound) : a.from(row: rows.lowerBound)
      let second = transposedB ? b.from(row: columns.lowerBound) : b.from(column: columns.lowerBound)
      var (left, right) = (first.operand(transposed: transposedA), second.operand(transposed: transposedB))
      function(
        rows.count, columns.count, k, alpha, &left, &right, onto.kernel,
        c.from(row: rows.lowerBound, column: columns.lowerBound).pointer, c.stride)
    }
    if m >= n {
      pool.run(count: m, size: pieceSize(m, multiple: 12)) { piece($0, 0..<n) }
    } else {
      pool.run(count: n, size: pieceSize(n, multiple: tileLanes)) { piece(0..<m, $0) }
    }
  }

  /// Two pieces to a thread, whole tiles each.
  private func pieceSize(_ count: Int, multiple: Int) -> Int {
    let pieces = pool.threadCount == 1 ? 1 : pool.threadCount * 2
    return Swift.max((count + pieces - 1) / pieces + multiple - 1, multiple) / multiple * multiple
  }
}
