/// Where the factors of a LoRA module are in memory, whether they were packed there or are mapped from a file;
/// `graft_lora` in CKernels describes it. A is not padded to whole groups of ranks, so that small ranks take few bytes.
public struct LowRankLayout: Sendable, Equatable {
  /// Rows of A, columns of B.
  public let rank: Int
  /// Columns of A.
  public let columns: Int
  /// Rows of B.
  public let outputs: Int
  /// The element type of A and B.
  public let element: LowRankFactors.Element

  /// The sizes must be positive, and so small that no product of them overflows.
  public init(rank: Int, columns: Int, outputs: Int, element: LowRankFactors.Element) {
    precondition(rank > 0 && columns > 0 && outputs > 0)
    self.rank = rank
    self.columns = columns
    self.outputs = outputs
    self.element = element
  }

  /// Bytes after A that a kernel may read: it loads a whole vector even if the last group of ranks is narrower.
  private static let slack = 64

  /// Bytes of A, with the bytes after it that a kernel may read.
  public var aBytes: Int { rank * padded(columns) * element.size + Self.slack }
  /// Bytes of B.
  public var bBytes: Int { TileLayout.groups(outputs) * bytesPerGroup }
  /// Bytes of DoRA's m for each output, padded to whole groups, and of m − 1 after them.
  public var rowFactorBytes: Int { 2 * rowFactorCount * 4 }

  /// Bytes of a bias for each output, padded to whole groups.
  public var biasBytes: Int { rowFactorCount * 4 }
  /// Bytes of a change of the factor of each column of the input.
  public var inputChangeBytes: Int { columns * 4 }

  /// `bytes` rounded up to whole cache lines of 64 bytes.
  public static func aligned(_ bytes: Int) -> Int { (bytes + 63) / 64 * 64 }

  /// Bytes of B for a group of 16 outputs.
  var bytesPerGroup: Int { tileLanes * padded(rank) * element.size }
  /// Outputs, padded to whole groups.
  var rowFactorCount: Int { TileLayout.groups(outputs) * tileLanes }

  /// In bf16, columns or ranks are stored in pairs.
  private func padded(_ count: Int) -> Int { element == .bf16 ? (count + 1) / 2 * 2 : count }

  /// Packs A.
  /// - Parameters:
  ///   - a: [rank][columns]
  ///   - memory: `aBytes` zeros, aligned to 4
  public func packA(_ a: UnsafePointer<Float>, into memory: UnsafeMutableRawPointer) {
    for first in stride(from: 0, to: rank, by: tileLanes) {
      let rows = min(rank - first, tileLanes)
      interleave(
        a + first * columns, rows: rows, columns: columns, lanes: rows,
        into: memory + first * padded(columns) * element.size)
    }
  }

  /// Packs B.
  /// - Parameters:
  ///   - b: [outputs][rank]
  ///   - memory: `bBytes` zeros, aligned to 4
  public func packB(_ b: UnsafePointer<Float>, into memory: UnsafeMutableRawPointer) {
    for first in stride(from: 0, to: outputs, by: tileLanes) {
      interleave(
        b + first * rank, rows: min(outputs - first, tileLanes), columns: rank, lanes: tileLanes,
        into: memory + first / tileLanes * bytesPerGroup)
    }
  }

  /// Packs DoRA's row factors: m, then m − 1.
  /// - Parameters:
  ///   - values: m, [outputs]
  ///   - memory: `rowFactorBytes` zeros, aligned to 4
  public func packRowFactors(_ values: UnsafePointer<Float>, into memory: UnsafeMutableRawPointer) {
    let factors = memory.assumingMemoryBound(to: Float.self)
    let minusOne = factors + rowFactorCount
    for i in 0..<outputs {
      factors[i] = values[i]
      minusOne[i] = values[i] - 1
    }
  }

  /// Puts up to 16 rows side by side, a row to a lane: f32 as [column][lane], bf16 as [column pair][lane][2].
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
          let (even, odd) = (LowRankFactors.bf16(values[2 * pair]), LowRankFactors.bf16(values[2 * pair + 1]))
          target[pair * lanes + row] = UInt32(even) | UInt32(odd) << 16
        }
        if columns % 2 == 1 {
          target[pairs * lanes + row] = UInt32(LowRankFactors.bf16(values[columns - 1]))
        }
      }
    }
  }
}

extension LowRankFactors.Element {
  /// Bytes of an element.
  public var size: Int { self == .bf16 ? 2 : 4 }
}
