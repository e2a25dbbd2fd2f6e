import CKernels

/// What `Compute.linear` does with its outputs while they are still in the cache.
public enum LinearEpilogue {
  /// Nothing: the outputs stay where the product wrote them.
  case none
  /// Adds the first `size` outputs of each row to a residual stream, [rows][size].
  case add(to: UnsafeMutablePointer<Float>, size: Int)
  /// Writes silu(outputs) · (outputs from number `up` on), the first `size` of each row, to [rows][size].
  /// `up` is a multiple of 16.
  case swiglu(up: Int, size: Int, into: UnsafeMutablePointer<Float>)

  /// Applies the epilogue to the outputs of some groups of the matrix.
  /// - Parameters:
  ///   - groups: the outputs that the product has written; of a SwiGLU, those of its gate
  ///   - y: [rows][ldy]
  func apply(_ groups: Range<Int>, functions: graft_forward_kernels, rows: Int, y: UnsafePointer<Float>, ldy: Int) {
    let first = groups.lowerBound * tileLanes
    switch self {
    case .none: break
    case .add(let sum, let size):
      let count = min(groups.upperBound * tileLanes, size) - first
      guard count > 0 else { return }
      for row in 0..<rows { functions.add(sum + row * size + first, y + row * ldy + first, count) }
    case .swiglu(let up, let size, let out):
      let count = min(groups.upperBound * tileLanes, size) - first
      guard count > 0 else { return }
      for row in 0..<rows {
        functions.swiglu(y + row * ldy + first, y + row * ldy + up + first, out + row * size + first, count)
      }
    }
  }
}
