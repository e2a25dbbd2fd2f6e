import CKernels

/// Arithmetic of the products with the base's weights.
public enum ComputeMode: String, CaseIterable, Sendable {
  /// 32-bit floats: the reference.
  case f32
  /// Activations rounded to 13 bits and code values to 12 beside their sign, multiplied and summed as integers within
  /// a block; the output head in signed bytes.
  case fast
}

/// The maths of the forward pass on buffers: an instruction set's kernels, shared out over a thread pool.
///
/// Results do not depend on the number of threads, on how many rows go in together, or on the instruction set.
public struct Compute: Sendable {
  public let kernels: KernelSet
  public let pool: ThreadPool
  public let mode: ComputeMode

  public init(kernels: KernelSet = .best, pool: ThreadPool, mode: ComputeMode = .f32) {
    self.kernels = kernels
    self.pool = pool
    self.mode = mode
  }

  /// y = x · Wᵀ in the compute mode's arithmetic. x: [rows][columns], y: [rows][ldy], of which `w.paddedOutputs` a row
  /// are written. `rounded` has room for the rows.
  public func product(
    _ w: Matrix, _ x: UnsafePointer<Float>, rows: Int, rounded: RoundedRows, into y: UnsafeMutablePointer<Float>,
    ldy: Int
  ) {
    let block: Int
    switch (w.storage, mode) {
    case (.dense, _), (.nf4, .f32): return product(w, x, ldx: w.columns, rows: rows, into: y, ldy: ldy)
    case (.nf4(let size), .fast), (.int8(let size), _): block = size
    }
    let functions = kernels.functions
    pool.run(count: rows, grain: 16) { range in
      for row in range {
        functions.quantize(
          x + row * w.columns, w.columns, block, rows, rounded.values.pointer + row * block,
          rounded.scale.pointer + row)
      }
    }
    var descriptor = w.descriptor
    var activations = graft_activations(
      q: rounded.values.pointer, scale: rounded.scale.pointer, columns: w.columns, block: block,
      stride: rows)
    let isNF4 = if case .nf4 = w.storage { true } else { false }
    let function = isNF4 ? functions.nf4_integer_product! : functions.int8_integer_product!
    pool.run(count: w.groups, grain: 2) { groups in
      function(&descriptor, &activations, rows, y, ldy, groups.lowerBound, groups.upperBound)
    }
  }

  /// y = x · Wᵀ in f32. x: [rows][ldx], y: [rows][ldy], of which `w.paddedOutputs` a row are written.
  public func product(
    _ w: Matrix, _ x: UnsafePointer<Float>, ldx: Int, rows: Int, into y: UnsafeMutablePointer<Float>, ldy: Int
  ) {
    var descriptor = w.descriptor
    let functions = kernels.functions
    pool.run(count: w.groups, grain: 2) { groups in
      switch w.storage {
      case .nf4:
        functions.nf4_product(&descriptor, x, ldx, rows, y, ldy, groups.lowerBound, groups.upperBound)
      case .dense:
        functions.dense_product(&descriptor, x, ldx, rows, y, ldy, groups.lowerBound, groups.upperBound, 1, 0)
      case .int8: preconditionFailure("bytes are multiplied as integers")
      }
    }
  }

  /// y += scale · x · Wᵀ for a dense matrix.
  public func addProduct(
    _ w: Matrix, _ x: UnsafePointer<Float>, ldx: Int, rows: Int, into y: UnsafeMutablePointer<Float>, ldy: Int,
    scale: Float
  ) {
    var descriptor = w.descriptor
    let functions = kernels.functions
    pool.run(count: w.groups, grain: 4) { groups in
      functions.dense_product(&descriptor, x, ldx, rows, y, ldy, groups.lowerBound, groups.upperBound, scale, 1)
    }
  }

  /// out = x / sqrt(mean(x²) + ε) · weight for each row of `size` (Zhang and Sennrich, 2019).
  public func rmsNorm(
    _ x: UnsafePointer<Float>, weight: UnsafePointer<Float>, epsilon: Float, rows: Int, size: Int,
    into out: UnsafeMutablePointer<Float>
  ) {
    let function = kernels.functions.rms_norm!
    pool.run(count: rows, grain: 8) { range in
      for row in range { function(x + row * size, weight, epsilon, out + row * size, size) }
    }
  }

  /// out = silu(gate) · up. gate and up: [rows][ld], out: [rows][size], which may not overlap them.
  public func swiglu(
    gate: UnsafePointer<Float>, up: UnsafePointer<Float>, ld: Int, rows: Int, size: Int,
    into out: UnsafeMutablePointer<Float>
  ) {
    let function = kernels.functions.swiglu!
    pool.run(count: rows, grain: 4) { range in
      for row in range { function(gate + row * ld, up + row * ld, out + row * size, size) }
    }
  }

  /// x += y, [rows][size] and [rows][ldy].
  public func add(_ y: UnsafePointer<Float>, ldy: Int, rows: Int, size: Int, to x: UnsafeMutablePointer<Float>) {
    let function = kernels.functions.add!
    pool.run(count: rows, grain: 16) { range in
      for row in range { function(x + row * size, y + row * ldy, size) }
    }
  }
}

extension Compute {
  /// out = exp((x − highest) · factor) for n values, or only their sum if `out` is nil. Runs on the caller's thread.
  public func expSum(
    _ x: UnsafePointer<Float>, count: Int, highest: Float, factor: Float, into out: UnsafeMutablePointer<Float>?
  ) -> Double {
    kernels.functions.exp_sum(x, count, highest, factor, out)
  }
}

/// Room for rows of activations in the form that integer products take.
public struct RoundedRows: Sendable {
  let values: AlignedBuffer<Int16>
  let scale: AlignedBuffer<Float>

  /// - Parameter columns: the most of any matrix they are multiplied with
  public init(rows: Int, columns: Int) {
    values = AlignedBuffer(count: rows * columns)
    // Blocks have at least 8 columns.
    scale = AlignedBuffer(count: rows * (columns / 8))
  }
}
