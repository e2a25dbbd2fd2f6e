public import Formats
import Kernels

/// The base's embedding and output head, row by row. An adapter's copies of them are compared with these.
public struct BaseTables {
  private let readRow: (PEFTConfig.Table, Int, inout [Float]) throws -> Bool

  /// Of a base that is served.
  public init(_ base: Base) {
    readRow = { table, row, values in
      guard let matrix = table == .embedding ? base.embedding : base.exactHead else { return false }
      matrix.copyRow(row, to: &values)
      return true
    }
  }

  /// Of the original weights.
  public init(_ model: any PublishedModel) {
    let isTied = model.config.tiedHead
    readRow = { table, row, values in
      let name = (isTied ? .embedding : table).rawValue + ".weight"
      try values.withUnsafeMutableBufferPointer { try model.read(name, rows: row..<row + 1, into: $0) }
      return true
    }
  }

  /// Reads a row.
  /// - Parameter values: as many as a row has, written
  /// - Returns: `false` if there is only a rounded copy of the table
  /// - Throws: `ModelError` if the original weights cannot be read
  func read(_ table: PEFTConfig.Table, row: Int, into values: inout [Float]) throws -> Bool {
    try readRow(table, row, &values)
  }
}
