import CKernels

/// Arithmetic of the products with the base's weights.
public enum ComputeMode: String, CaseIterable, Sendable {
  /// 32-bit floats: the reference.
  case f32
  /// Activations rounded to 13 bits and code values to 12 beside their sign, multiplied and summed as integers within
  /// a block; the output head in signed bytes; adapters in bf16; keys and values in f16.
  case fast
  /// What `fast` is on machines without faster products of the same accuracy: 16-bit products throughout, which are
  /// closer to `f32` than products of bf16 numbers.
  case bf16

  /// How adapters are kept.
  public var adapterElement: LowRank.Element { self == .f32 ? .f32 : .bf16 }
  /// How keys and values are kept.
  public var keyValueElement: KeyValueLayout.Element { self == .f32 ? .f32 : .f16 }
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

  /// y = x · Wᵀ in the compute mode's arithmetic. x: [rows][columns], y: [rows][paddedOutputs].
  public func product(
    _ w: Matrix, _ x: UnsafePointer<Float>, rows: Int, scratch: inout LinearScratch,
    into y: UnsafeMutablePointer<Float>
  ) {
    linear(w, x, rows: rows, terms: [], scratch: &scratch, into: y)
  }

  /// Columns that are rounded together for a product with `w`; `nil` where it takes f32.
  func roundingBlock(_ w: Matrix) -> Int? {
    switch (w.storage, mode) {
    case (.dense, _), (.nf4, .f32): nil
    case (.nf4(let size), _), (.int8(let size), _): size
    }
  }

  /// Groups of a matrix that are worth being handed to a thread.
  func leastGroups(rows: Int, columns: Int) -> Int { max(1, 20_000 / (rows * columns * tileLanes)) }

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
}

extension Compute {
  /// out = silu(gate) · up for n values; out may be gate. Runs on the caller's thread.
  public func swiglu(
    gate: UnsafePointer<Float>, up: UnsafePointer<Float>, count: Int, into out: UnsafeMutablePointer<Float>
  ) {
    kernels.functions.swiglu(gate, up, out, count)
  }

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
