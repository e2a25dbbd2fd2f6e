/// How a LoRA module's factors lie in memory (CKernels.h has the picture), whether they were put there or are mapped
/// from a file. There is no padding to a tile's width: ranks of any size take their own bytes.
public struct LowRankLayout: Sendable, Equatable {
  public let rank: Int
  public let columns: Int
  public let outputs: Int
  public let element: LowRank.Element

  /// All sizes are positive, and so small that no product of them overflows.
  public init(rank: Int, columns: Int, outputs: Int, element: LowRank.Element) {
    precondition(rank > 0 && columns > 0 && outputs > 0)
    self.rank = rank
    self.columns = columns
    self.outputs = outputs
    self.element = element
  }

  /// The kernels may read a vector beyond a narrow group of A.
  private static let slack = 64

  /// Bytes of A, and of what may be read behind it.
  public var aBytes: Int { rank * padded(columns) * element.size + Self.slack }
  /// Bytes of B.
  public var bBytes: Int { TileLayout.groups(outputs) * bytesPerGroup }
  /// Bytes of DoRA's m for each output, padded to whole groups, and of m − 1 behind them.
  public var rowFactorBytes: Int { 2 * rowFactorCount * 4 }

  /// Where the next part may begin after `bytes` bytes: on a cache line.
  public static func aligned(_ bytes: Int) -> Int { (bytes + 63) / 64 * 64 }

  /// Of B, for 16 outputs.
  var bytesPerGroup: Int { tileLanes * padded(rank) * element.size }
  var rowFactorCount: Int { TileLayout.groups(outputs) * tileLanes }

  /// bf16 lies in pairs of columns or ranks.
  private func padded(_ count: Int) -> Int { element == .bf16 ? (count + 1) / 2 * 2 : count }

  /// Puts A where its bytes are.
  /// - Parameters:
  ///   - a: [rank, columns], row-major
  ///   - memory: `aBytes` zeros on a multiple of 4
  public func putA(_ a: UnsafePointer<Float>, into memory: UnsafeMutableRawPointer) {
    for first in stride(from: 0, to: rank, by: tileLanes) {
      let rows = min(rank - first, tileLanes)
      interleave(
        a + first * columns, rows: rows, columns: columns, lanes: rows,
        into: memory + first * padded(columns) * element.size)
    }
  }

  /// Puts B where its bytes are.
  /// - Parameters:
  ///   - b: [outputs, rank], row-major
  ///   - memory: `bBytes` zeros on a multiple of 4
  public func putB(_ b: UnsafePointer<Float>, into memory: UnsafeMutableRawPointer) {
    for first in stride(from: 0, to: outputs, by: tileLanes) {
      interleave(
        b + first * rank, rows: min(outputs - first, tileLanes), columns: rank, lanes: tileLanes,
        into: memory + first / tileLanes * bytesPerGroup)
    }
  }

  /// Puts DoRA's row factors where their bytes are.
  /// - Parameters:
  ///   - values: m, [outputs]
  ///   - memory: `rowFactorBytes` zeros on a multiple of 4
  public func putRowFactors(_ values: UnsafePointer<Float>, into memory: UnsafeMutableRawPointer) {
    let full = memory.assumingMemoryBound(to: Float.self)
    let lessOne = full + rowFactorCount
    for i in 0..<outputs {
      full[i] = values[i]
      lessOne[i] = values[i] - 1
    }
  }

  /// Lays up to 16 rows side by side, a row to a lane: f32 [column][lane], bf16 [column pair][lane][2].
  private func interleave(
    _ source: UnsafePointer<Float>, rows: Int, columns: Int, lanes: Int, into memory: UnsafeMutableRawPointer
  ) {
    switch element {
    case .f32:
      let target = memory.assumingMemoryBound(to: Float.self)
      for row in 0..<rows {
        let values = source + row * columns
        for column in 0..<columns { target[column * lanes + row] = values[column] }
      }
    case .bf16:
      let target = memory.assumingMemoryBound(to: UInt32.self)
      let pairs = columns / 2
      for row in 0..<rows {
        let values = source + row * columns
        for pair in 0..<pairs {
          let (even, odd) = (LowRank.bf16(values[2 * pair]), LowRank.bf16(values[2 * pair + 1]))
          target[pair * lanes + row] = UInt32(even) | UInt32(odd) << 16
        }
        if columns % 2 == 1 {
          target[pairs * lanes + row] = UInt32(LowRank.bf16(values[columns - 1]))
        }
      }
    }
  }
}

extension LowRank.Element {
  /// In bytes.
  var size: Int { self == .bf16 ? 2 : 4 }
}
