import CKernels

/// Gradients of the forward pass's elementwise operations; each stands for the function of the same name there.
extension Compute {
  /// dx += the gradient of `rmsNorm` at x, given dout; rows of `size`, dense.
  public func rmsNormBackward(
    _ x: UnsafePointer<Float>, weight: UnsafePointer<Float>, epsilon: Float, dout: UnsafePointer<Float>, rows: Int,
    size: Int, adding dx: UnsafeMutablePointer<Float>
  ) {
    let function = kernels.training.rms_norm_backward!
    pool.run(count: rows, grain: 8) { range in
      for row in range { function(x + row * size, weight, epsilon, dout + row * size, dx + row * size, size) }
    }
  }

  /// out = silu(gate) · up. gate and up: [rows][ld], out: [rows][size].
  public func swiglu(
    gate: UnsafePointer<Float>, up: UnsafePointer<Float>, ld: Int, rows: Int, size: Int,
    into out: UnsafeMutablePointer<Float>
  ) {
    let function = kernels.functions.swiglu!
    pool.run(count: rows, grain: 4) { range in
      for row in range { function(gate + row * ld, up + row * ld, out + row * size, size) }
    }
  }

  /// The gradients of `swiglu`; dgate and dup: [rows][ld] as gate and up, which they may be; dout: [rows][size].
  public func swigluBackward(
    gate: UnsafePointer<Float>, up: UnsafePointer<Float>, dout: UnsafePointer<Float>, ld: Int, rows: Int, size: Int,
    dgate: UnsafeMutablePointer<Float>, dup: UnsafeMutablePointer<Float>
  ) {
    let function = kernels.training.swiglu_backward!
    pool.run(count: rows, grain: 4) { range in
      for row in range {
        let at = row * ld
        function(gate + at, up + at, dout + row * size, dgate + at, dup + at, size)
      }
    }
  }

  /// Turns each head of each row by its position's angle, or back by it.
  /// - Parameters:
  ///   - x: [rows][heads · headSize]
  ///   - cosine, sine: [position][headSize / 2]
  public func rotate(
    _ x: Rows, positions: ArraySlice<Int32>, heads: Int, headSize: Int, cosine: UnsafePointer<Float>,
    sine: UnsafePointer<Float>, backward: Bool = false
  ) {
    let functions = kernels.functions
    let half = headSize / 2
    pool.run(count: positions.count, grain: 16) { range in
      withUnsafeTemporaryAllocation(of: Float.self, capacity: half) { reversed in
        for row in range {
          let at = Int(positions[positions.startIndex + row]) * half
          var turn = sine + at
          if backward {
            for i in 0..<half { reversed[i] = -sine[at + i] }
            turn = UnsafePointer(reversed.baseAddress!)
          }
          functions.rope(x.pointer + row * x.stride, heads, headSize, cosine + at, turn)
        }
      }
    }
  }

  /// x[row][column] *= factor[column].
  public func scaleColumns(_ x: Rows, by factor: UnsafePointer<Float>, rows: Int, columns: Int) {
    let function = kernels.training.multiply!
    pool.run(count: rows, grain: 16) { range in
      for row in range {
        let at = x.pointer + row * x.stride
        function(at, factor, at, columns)
      }
    }
  }

  /// sum[column] += Σ over rows of a[row][column] · b[row][column].
  public func addColumnProducts(_ a: Rows, _ b: Rows, rows: Int, columns: Int, to sum: UnsafeMutablePointer<Float>) {
    let function = kernels.training.multiply_add!
    pool.run(count: columns, grain: 64) { range in
      for row in 0..<rows {
        let first = range.lowerBound
        function(
          a.pointer + row * a.stride + first, b.pointer + row * b.stride + first, 1, sum + first, range.count)
      }
    }
  }

  /// out = x + y, all [rows][columns] with strides of their own.
  public func sum(_ x: Rows, _ y: Rows, rows: Int, columns: Int, into out: Rows) {
    let function = kernels.functions.add!
    pool.run(count: rows, grain: 16) { range in
      for row in range {
        let target = out.pointer + row * out.stride
        target.update(from: x.pointer + row * x.stride, count: columns)
        function(target, y.pointer + row * y.stride, columns)
      }
    }
  }

  /// out = x, both [rows][columns] with strides of their own.
  public func copy(_ x: Rows, rows: Int, columns: Int, into out: Rows) {
    pool.run(count: rows, grain: 16) { range in
      for row in range {
        (out.pointer + row * out.stride).update(from: x.pointer + row * x.stride, count: columns)
      }
    }
  }

  /// The sum of squares of n values in f64, in pieces of a fixed size.
  public func sumOfSquares(_ x: UnsafePointer<Float>, count: Int) -> Double {
    let function = kernels.training.sum_squares!
    let piece = 1 << 16
    let pieces = (count + piece - 1) / piece
    guard pieces > 0 else { return 0 }
    return withUnsafeTemporaryAllocation(of: Double.self, capacity: pieces) { sums in
      nonisolated(unsafe) let sums = sums
      pool.run(parts: pieces) { part in
        sums[part] = function(x + part * piece, min(piece, count - part * piece))
      }
      return sums.reduce(0, +)
    }
  }
}

/// Draws that depend on nothing but their key and their place: a counter through a hash, so that any of them can be
/// drawn again at any time, in any order.
public struct CounterKey: Sendable, Equatable {
  public let low: UInt32
  public let high: UInt32

  /// - Parameter parts: what the draws belong to (seed, step, row, module), mixed by SplitMix64's finaliser
  public init(_ parts: UInt64...) {
    var state: UInt64 = 0x9E37_79B9_7F4A_7C15
    for part in parts {
      state = (state ^ part) &+ 0x9E37_79B9_7F4A_7C15
      state = (state ^ (state >> 30)) &* 0xBF58_476D_1CE4_E5B9
      state = (state ^ (state >> 27)) &* 0x94D0_49BB_1331_11EB
      state ^= state >> 31
    }
    low = UInt32(truncatingIfNeeded: state)
    high = UInt32(truncatingIfNeeded: state >> 32)
  }

  /// The draw at a place, 32 even bits.
  public subscript(index: UInt32) -> UInt32 { Self.hash(Self.hash(index &+ low) ^ high) }

  /// As `hash32` of the kernels.
  private static func hash(_ value: UInt32) -> UInt32 {
    var x = value
    x ^= x >> 16
    x = x &* 0x7FEB_352D
    x ^= x >> 15
    x = x &* 0x846C_A68B
    return x ^ (x >> 16)
  }
}

extension Compute {
  /// Inverted dropout of rows: out = x / (1 − p), or 0 where the row's key draws below p.
  /// - Parameters:
  ///   - keys: one for each row; element i of a row takes draw `positions[row] · columns + i`
  ///   - adding: adds to out instead of writing
  public func dropout(
    _ x: Rows, into out: Rows, columns: Int, probability: Float, keys: ArraySlice<CounterKey>,
    positions: ArraySlice<Int32>, adding: Bool = false
  ) {
    let function = kernels.training.dropout!
    let threshold = UInt32((Double(probability) * 0x1p32).rounded(.down).clamped(to: 0...Double(UInt32.max)))
    let factor = 1 / (1 - probability)
    pool.run(count: keys.count, grain: 8) { range in
      for row in range {
        let (key, position) = (keys[keys.startIndex + row], positions[positions.startIndex + row])
        function(
          x.pointer + row * x.stride, out.pointer + row * out.stride, columns,
          UInt32(truncatingIfNeeded: Int(position) * columns), key.low, key.high, threshold, factor, adding ? 1 : 0)
      }
    }
  }
}

extension Comparable {
  fileprivate func clamped(to range: ClosedRange<Self>) -> Self { min(max(self, range.lowerBound), range.upperBound) }
}
