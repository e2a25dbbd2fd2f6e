import CKernels

/// The gradients of the forward pass's elementwise operations. A gradient is named like its value, with a d before it.
extension Compute {
  /// dx += the gradient of `rmsNorm`'s input.
  /// - Parameters:
  ///   - x: [rows][size]
  ///   - dout: [rows][size]
  ///   - dx: [rows][size]; it must not overlap the others
  ///   - weight: [size]
  public func rmsNormBackward(
    _ x: UnsafePointer<Float>, weight: UnsafePointer<Float>, epsilon: Float, dout: UnsafePointer<Float>, rows: Int,
    size: Int, adding dx: UnsafeMutablePointer<Float>
  ) {
    let kernel = kernels.training.rms_norm_backward
    pool.run(count: rows, grain: 8) { range in
      for row in range { kernel(x + row * size, weight, epsilon, dout + row * size, dx + row * size, size) }
    }
  }

  /// Replaces the gradient of a norm's outputs by that of its inputs, for groups of neighbouring values that are normalised
  /// each on its own.
  /// - Parameters:
  ///   - x: the norm's inputs, [rows][groups · size]
  ///   - weight: [size]
  ///   - gradient: [rows][groups · size], replaced
  public func rmsNormBackward(
    _ x: Rows, weight: UnsafePointer<Float>, epsilon: Float, rows: Int, groups: Int = 1, size: Int,
    replacing gradient: Rows
  ) {
    let kernel = kernels.training.rms_norm_backward
    pool.run(count: rows, grain: 8) { range in
      withUnsafeTemporaryAllocation(of: Float.self, capacity: size) { copy in
        guard let dout = copy.baseAddress else { return }
        for row in range {
          for group in 0..<groups {
            let dx = gradient.pointer + row * gradient.stride + group * size
            dout.update(from: dx, count: size)
            dx.update(repeating: 0, count: size)
            kernel(x.pointer + row * x.stride + group * size, weight, epsilon, dout, dx, size)
          }
        }
      }
    }
  }

  /// out = activation(gate) · up for rows, on all threads.
  /// - Parameters:
  ///   - gate: [rows][ld], of which `size` values a row are read
  ///   - up: [rows][ld], of which `size` values a row are read
  ///   - out: [rows][size], written
  public func gated(
    _ activation: GateActivation, gate: UnsafePointer<Float>, up: UnsafePointer<Float>, ld: Int, rows: Int, size: Int,
    into out: UnsafeMutablePointer<Float>
  ) {
    let kernel = kernels.forward.gated(activation)
    pool.run(count: rows, grain: 4) { range in
      for row in range { kernel(gate + row * ld, up + row * ld, out + row * size, size) }
    }
  }

  /// The gradients of `gated`'s inputs.
  /// - Parameters:
  ///   - gate: [rows][ld]
  ///   - up: [rows][ld]
  ///   - dout: [rows][size]
  ///   - dgate: [rows][ld], written; it may be the same memory as `gate`
  ///   - dup: [rows][ld], written; it may be the same memory as `up`
  public func gatedBackward(
    _ activation: GateActivation, gate: UnsafePointer<Float>, up: UnsafePointer<Float>, dout: UnsafePointer<Float>,
    ld: Int, rows: Int, size: Int,
    dgate: UnsafeMutablePointer<Float>, dup: UnsafeMutablePointer<Float>
  ) {
    let training = kernels.training
    let kernel = activation == .silu ? training.swiglu_backward : training.geglu_backward
    pool.run(count: rows, grain: 4) { range in
      for row in range {
        let first = row * ld
        kernel(gate + first, up + first, dout + row * size, dgate + first, dup + first, size)
      }
    }
  }

  /// Rotates the first elements of each head of each row by its position's angles, in place (RoPE; Su et al., 2021).
  /// - Parameters:
  ///   - x: [rows][heads · headSize]
  ///   - positions: a position for each row
  ///   - rotarySize: the elements of a head that are rotated; `nil` for all
  ///   - cosine: [position][rotarySize / 2]
  ///   - sine: [position][rotarySize / 2]
  ///   - backward: rotates by the negative angles, which gives the gradient of the rotation's input
  public func rotate(
    _ x: Rows, positions: ArraySlice<Int32>, heads: Int, headSize: Int, rotarySize: Int? = nil,
    cosine: UnsafePointer<Float>, sine: UnsafePointer<Float>, backward: Bool = false
  ) {
    let forward = kernels.forward
    let rotarySize = rotarySize ?? headSize
    let half = rotarySize / 2
    pool.run(count: positions.count, grain: 16) { range in
      withUnsafeTemporaryAllocation(of: Float.self, capacity: half) { negated in
        guard let negatedStart = negated.baseAddress else { return }
        for row in range {
          let first = Int(positions[positions.startIndex + row]) * half
          var rowSine = sine + first
          if backward {
            for i in 0..<half { negated[i] = -sine[first + i] }
            rowSine = UnsafePointer(negatedStart)
          }
          forward.rotate(
            x.pointer + row * x.stride, heads: heads, headSize: headSize, rotarySize: rotarySize, cosine + first,
            rowSine)
        }
      }
    }
  }
}

/// Elementwise operations and sums over rows.
extension Compute {
  /// Divides groups of neighbouring values by their root mean square, as `rmsNorm` does for whole rows.
  /// - Parameters:
  ///   - x: [rows][groups · size]
  ///   - out: [rows][groups · size], which may be the same memory
  ///   - weight: [size]
  public func rmsNorm(
    _ x: Rows, weight: UnsafePointer<Float>, epsilon: Float, rows: Int, groups: Int, size: Int, into out: Rows
  ) {
    let kernel = kernels.forward.rms_norm
    pool.run(count: rows, grain: 8) { range in
      for row in range {
        for group in 0..<groups {
          kernel(
            x.pointer + row * x.stride + group * size, weight, epsilon, out.pointer + row * out.stride + group * size,
            size)
        }
      }
    }
  }

  /// x *= factor, in place.
  /// - Parameter x: [rows][columns]
  public func scale(_ x: Rows, by factor: Float, rows: Int, columns: Int) {
    let kernel = kernels.training.scale
    pool.run(count: rows, grain: 4) { range in
      for row in range { kernel(x.pointer + row * x.stride, factor, columns) }
    }
  }

  /// x = cap · tanh(x / cap), in place.
  /// - Parameter x: [rows][columns]
  public func softCap(_ x: Rows, _ cap: Float, rows: Int, columns: Int) {
    let kernel = kernels.forward.soft_cap
    pool.run(count: rows, grain: 1) { range in
      for row in range { kernel(x.pointer + row * x.stride, cap, columns) }
    }
  }

  /// The gradient of `softCap`'s input, in place of that of its output.
  /// - Parameters:
  ///   - capped: what `softCap` gave, [rows][columns]
  ///   - dx: [rows][columns]
  public func softCapBackward(_ capped: Rows, _ cap: Float, rows: Int, columns: Int, replacing dx: Rows) {
    let kernel = kernels.training.soft_cap_backward
    pool.run(count: rows, grain: 1) { range in
      for row in range { kernel(capped.pointer + row * capped.stride, cap, dx.pointer + row * dx.stride, columns) }
    }
  }

  /// x += y in every row.
  /// - Parameters:
  ///   - x: [rows][columns]
  ///   - y: [columns]
  public func add(_ y: UnsafePointer<Float>, to x: Rows, rows: Int, columns: Int) {
    let kernel = kernels.forward.add
    pool.run(count: rows, grain: 16) { range in
      for row in range { kernel(x.pointer + row * x.stride, y, columns) }
    }
  }

  /// x[row][column] *= factor[column], in place.
  public func scaleColumns(_ x: Rows, by factor: UnsafePointer<Float>, rows: Int, columns: Int) {
    let multiply = kernels.training.multiply
    pool.run(count: rows, grain: 16) { range in
      for row in range {
        let values = x.pointer + row * x.stride
        multiply(values, factor, values, columns)
      }
    }
  }

  /// sum[column] += Σ over rows of a[row][column] · b[row][column], in the order of the rows.
  public func addColumnProducts(_ a: Rows, _ b: Rows, rows: Int, columns: Int, to sum: UnsafeMutablePointer<Float>) {
    let multiplyAdd = kernels.training.multiply_add
    pool.run(count: columns, grain: 64) { range in
      for row in 0..<rows {
        let first = range.lowerBound
        multiplyAdd(
          a.pointer + row * a.stride + first, b.pointer + row * b.stride + first, 1, sum + first, range.count)
      }
    }
  }

  /// out = x + y, all [rows][columns]; out may be x.
  public func sum(_ x: Rows, _ y: Rows, rows: Int, columns: Int, into out: Rows) {
    let add = kernels.forward.add
    pool.run(count: rows, grain: 16) { range in
      for row in range {
        let target = out.pointer + row * out.stride
        target.update(from: x.pointer + row * x.stride, count: columns)
        add(target, y.pointer + row * y.stride, columns)
      }
    }
  }

  /// out = x, both [rows][columns]; they must not overlap.
  public func copy(_ x: Rows, rows: Int, columns: Int, into out: Rows) {
    pool.run(count: rows, grain: 16) { range in
      for row in range {
        (out.pointer + row * out.stride).update(from: x.pointer + row * x.stride, count: columns)
      }
    }
  }

  /// Σ x[i]² in f64. It is computed in blocks of a fixed size, whose sums are added in order, so that the result does not
  /// depend on the number of threads.
  /// - Parameter x: [count]
  public func sumOfSquares(_ x: UnsafePointer<Float>, count: Int) -> Double {
    let sumSquares = kernels.training.sum_squares
    let size = 1 << 16
    let blocks = (count + size - 1) / size
    guard blocks > 0 else { return 0 }
    return withUnsafeTemporaryAllocation(of: Double.self, capacity: blocks) { sums in
      pool.run(parts: blocks) { block in
        sums[block] = sumSquares(x + block * size, min(size, count - block * size))
      }
      return sums.reduce(0, +)
    }
  }
}
