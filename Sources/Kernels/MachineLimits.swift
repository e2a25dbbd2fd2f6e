import CKernels

/// What the machine can do at most, measured: the yardstick for benchmarks.
public struct MachineLimits: Sendable {
  /// Bytes a second that all threads read together from memory.
  public let readBandwidth: Double
  /// Integer multiplications and additions a second in registers, all threads, by the instructions that products use.
  public let integerPeak: Double

  /// Takes about half a second and `bufferBytes` of memory.
  public static func measure(_ compute: Compute, bufferBytes: Int = 512 << 20) -> MachineLimits {
    let functions = compute.kernels.functions
    let buffer = AlignedBuffer<UInt8>(count: bufferBytes)
    let parts = compute.pool.threadCount * 16
    let share = bufferBytes / parts / 256 * 256
    let seconds = best(of: 5) {
      compute.pool.run(parts: parts) { part in
        keep(functions.read_all(buffer.pointer + part * share, share))
      }
    }
    let rounds = 2_000_000
    let peakSeconds = best(of: 5) {
      compute.pool.run(parts: compute.pool.threadCount) { _ in
        keep(UInt64(truncatingIfNeeded: functions.integer_peak(rounds)))
      }
    }
    return MachineLimits(
      readBandwidth: Double(share * parts) / seconds,
      integerPeak: Double(rounds * functions.integer_peak_operations * compute.pool.threadCount) / peakSeconds)
  }

  private static func best(of count: Int, _ body: () -> Void) -> Double {
    (0..<count).map { _ in ContinuousClock().measure(body) / .seconds(1) }.min() ?? 0
  }
}

/// Uses a value as far as the compiler can tell.
@inline(never) private func keep(_ value: UInt64) {}
