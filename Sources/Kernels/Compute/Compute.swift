import CKernels

/// The operations of the forward and backward pass on buffers: one instruction set's kernels on a thread pool.
///
/// Results do not depend on the number of threads, or on how many rows are computed together. They are equal for all
/// instruction sets, training's products on tile registers excepted (`packsGradients`). Pointers need no alignment beyond their type's,
/// unless a function says otherwise.
public struct Compute: Sendable {
  /// The kernels that are called.
  public let kernels: KernelSet
  /// The threads that call them.
  public let pool: ThreadPool
  /// The arithmetic of products with the base model's weights.
  public let mode: ComputeMode

  /// - Parameters:
  ///   - kernels: the kernels to call; by default the machine's fastest
  ///   - pool: the threads that call them
  ///   - mode: the arithmetic of products with the base model's weights
  public init(kernels: KernelSet = .best, pool: ThreadPool, mode: ComputeMode = .f32) {
    self.kernels = kernels
    self.pool = pool
    self.mode = mode
  }

  /// out = x / sqrt(mean(x²) + ε) · weight for each row (Zhang and Sennrich, 2019).
  /// - Parameters:
  ///   - x: [rows][size]
  ///   - out: [rows][size], which may be the same memory
  ///   - weight: [size]
  public func rmsNorm(
    _ x: UnsafePointer<Float>, weight: UnsafePointer<Float>, epsilon: Float, rows: Int, size: Int,
    into out: UnsafeMutablePointer<Float>
  ) {
    let kernel = kernels.forward.rms_norm
    pool.run(count: rows, grain: 8) { range in
      for row in range { kernel(x + row * size, weight, epsilon, out + row * size, size) }
    }
  }

  /// out = silu(gate) · up. Runs on the caller's thread.
  /// - Parameters:
  ///   - gate: [count]
  ///   - up: [count]
  ///   - out: [count], which may be `gate`
  public func swiglu(
    gate: UnsafePointer<Float>, up: UnsafePointer<Float>, count: Int, into out: UnsafeMutablePointer<Float>
  ) {
    kernels.forward.swiglu(gate, up, out, count)
  }

  /// out = exp((x − maximum) · factor). Runs on the caller's thread.
  /// - Parameters:
  ///   - x: [count]
  ///   - maximum: the largest of x, so that no exponential exceeds 1
  ///   - out: [count], may be `x`; `nil` if only the sum is wanted
  /// - Returns: the sum of the exponentials
  public func expSum(
    _ x: UnsafePointer<Float>, count: Int, maximum: Float, factor: Float, into out: UnsafeMutablePointer<Float>?
  ) -> Double {
    kernels.forward.exp_sum(x, count, maximum, factor, out)
  }
}
