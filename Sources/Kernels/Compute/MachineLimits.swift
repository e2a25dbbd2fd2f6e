import CKernels

/// The machine's measured limits, which benchmarks put beside their results.
public struct MachineLimits: Sendable {
  /// Bytes a second that all threads together read from memory.
  public let readBandwidth: Double
  /// Integer operations a second on registers, by all threads together, with the instructions of the integer products.
  /// A multiplication and an addition count as two.
  public let integerPeak: Double

  /// Measures both limits, each as the best of five runs. Takes about half a second.
  /// - Parameters:
  ///   - compute: its threads and instruction set are measured
  ///   - bufferBytes: memory to allocate and read; larger than the machine's caches
  public static func measure(_ compute: Compute, bufferBytes: Int = 512 << 20) -> MachineLimits {
    let functions = compute.kernels.forward
    let buffer = AlignedBuffer<UInt8>(count: bufferBytes)
    let parts = compute.pool.threadCount * 16
    let bytesPerPart = bufferBytes / parts / 256 * 256
    let seconds = fastest(of: 5) {
      compute.pool.run(parts: parts) { part in
        keep(functions.read_all(buffer.pointer + part * bytesPerPart, bytesPerPart))
      }
    }
    let rounds = 2_000_000
    let peakSeconds = fastest(of: 5) {
      compute.pool.run(parts: compute.pool.threadCount) { _ in
        keep(UInt64(truncatingIfNeeded: functions.integer_peak(rounds)))
      }
    }
    return MachineLimits(
      readBandwidth: Double(bytesPerPart * parts) / seconds,
      integerPeak: Double(rounds * functions.integer_peak_operations * compute.pool.threadCount) / peakSeconds)
  }

  /// Seconds of the fastest of several runs.
  private static func fastest(of count: Int, _ body: () -> Void) -> Double {
    (0..<count).map { _ in ContinuousClock().measure(body) / .seconds(1) }.min() ?? 0
  }
}

/// Keeps the compiler from removing the computation of a value that nothing reads.
@inline(never) private func keep(_ value: UInt64) {}
