import CKernels

/// What `Compute.linear` does with its outputs while they are still in the cache.
public enum LinearEpilogue {
  /// Nothing: the outputs stay where the product wrote them.
  case none
  /// Adds the first `size` outputs of each row to a residual stream, [rows][size].
  case add(to: UnsafeMutablePointer<Float>, size: Int)
  /// Writes activation(outputs) · (outputs from number `up` on), the first `size` of each row, to [rows][size].
  /// `up` is a multiple of 16.
  case gated(up: Int, size: Int, activation: GateActivation = .silu, into: UnsafeMutablePointer<Float>)

  /// Applies the epilogue to the outputs of some groups of the matrix.
  /// - Parameters:
  ///   - groups: the outputs that the product has written; of a gated one, those of its gate
  ///   - y: [rows][ldy]
  func apply(_ groups: Range<Int>, functions: graft_forward_kernels, rows: Int, y: UnsafePointer<Float>, ldy: Int) {
    let first = groups.lowerBound * tileLanes
    switch self {
    case .none: break
    case .add(let sum, let size):
      let count = min(groups.upperBound * tileLanes, size) - first
      guard count > 0 else { return }
      for row in 0..<rows { functions.add(sum + row * size + first, y + row * ldy + first, count) }
    case .gated(let up, let size, let activation, let out):
      let count = min(groups.upperBound * tileLanes, size) - first
      guard count > 0 else { return }
      let gated = functions.gated(activation)
      for row in 0..<rows {
        gated(y + row * ldy + first, y + row * ldy + up + first, out + row * size + first, count)
      }
    }
  }
}

extension graft_forward_kernels {
  /// out = activation(gate) · up
  func gated(
    _ activation: GateActivation
  ) -> @convention(c) (UnsafePointer<Float>, UnsafePointer<Float>, UnsafeMutablePointer<Float>, Int) -> Void {
    switch activation {
    case .silu: swiglu
    case .geluTanh: geglu
    }
  }
}
