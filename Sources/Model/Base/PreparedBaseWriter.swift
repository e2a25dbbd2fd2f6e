public import Formats
public import Foundation
public import Kernels

/// Writes a published model as a prepared base: reads rows, quantises them, and writes codes and scales in tile order.
///
/// At any time a few megabytes of rows and the scales of one stack are in memory, whatever the model's size.
public struct PreparedBaseWriter {
  private let source: any PublishedModel
  private let layout: PreparedBaseLayout
  private let pool: ThreadPool
  private let progress: (Double) throws -> Void
  private let fingerprint: BaseFingerprint

  /// Rows that a thread quantises at a time. A multiple of 64 values, so blocks of 64 values never cross strips.
  static let stripRows = 64

  /// Writes a published model to `destination`, which appears whole or not at all.
  /// - Parameters:
  ///   - sourceHash: `BaseStore.sourceHash`
  ///   - progress: called with the share that is done, 0 ... 1; may throw to stop
  /// - Throws: `ModelError` naming the file and tensor that is wrong or cannot be written
  public static func write(
    _ source: any PublishedModel, sourceHash: String, to destination: URL, pool: ThreadPool,
    progress: @escaping (Double) throws -> Void = { _ in }
  ) throws {
    let layout = PreparedBaseLayout(source.config, storage: source.storage)
    let writer = PreparedBaseWriter(
      source: source, layout: layout, pool: pool, progress: progress, fingerprint: BaseFingerprint(source.config))
    try writer.write(sourceHash: sourceHash, to: destination)
  }

  private func write(sourceHash: String, to destination: URL) throws {
    let file = try AtomicFile(destination)
    var (header, dataStart) = try PreparedBaseHeader.planned(layout, config: source.config, sourceHash: sourceHash)
    try file.write(zeros: dataStart)
    let total = Double(layout.entries.reduce(0) { $0 + $1.length })
    var done = 0
    var pendingScales: [Float] = []
    for index in header.sections.indices {
      let entry = layout.entries[index]
      var checksum = Checksum()
      var length = 0
      func put(_ bytes: UnsafeRawBufferPointer) throws {
        checksum.update(bytes)
        try file.write(bytes)
        length += bytes.count
        try progress(Double(done + length) / total)
      }
      switch entry.content {
      case .vector(let name, let count): try writeVector(name, count: count) { try put($0) }
      case .bias(let stack, let layer): try writeBias(stack, layer, count: entry.length / 4) { try put($0) }
      case .exact(let name): try writeExact(name) { try put($0) }
      case .dense(let stack, let layer): try writeDense(stack, layer) { try put($0) }
      case .codes(let stack, let layer, let block):
        pendingScales = []
        try writeCodes(stack, layer, block, scales: &pendingScales) { try put($0) }
      case .headBytes(let name, let block):
        pendingScales = []
        try writeHeadBytes(name, block, scales: &pendingScales) { try put($0) }
      case .scales: try pendingScales.withUnsafeBytes { try put($0) }
      case .halfScales, .headScales:
        let (values, exponent) = HalfScale.round(pendingScales)
        header.sections[index].exponent = exponent
        try values.withUnsafeBytes { try put($0) }
      }
      guard length == entry.length else {
        throw ModelError(destination.path, entry.name, reason: "\(length) bytes written instead of \(entry.length)")
      }
      header.sections[index].checksum = checksum.finish()
      try file.write(zeros: PreparedBaseHeader.pageAligned(length) - length)
      done += length
    }
    header.fingerprint = fingerprint.finish()
    let encoded = try PreparedBaseHeader.codec.encode(header)
    try encoded.withUnsafeBytes { try file.overwrite(offset: 0, $0) }
    try file.finish()
  }

  // MARK: sections

  private func vector(_ name: String, count: Int) throws -> [Float] {
    var values = [Float](repeating: 0, count: count)
    try values.withUnsafeMutableBufferPointer { try source.read(name, rows: 0..<1, into: $0) }
    try Self.checkFinite(values, name, columns: count, firstRow: 0)
    fingerprint.add(name, values)
    return values
  }

  private func writeVector(_ name: String, count: Int, _ put: (UnsafeRawBufferPointer) throws -> Void) throws {
    try vector(name, count: count).withUnsafeBytes { try put($0) }
  }

  private func writeBias(
    _ stack: [Projection], _ layer: Int, count: Int, _ put: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    let (config, offsets) = (source.config, StackedWeights.layout(stack, source.config).offsets)
    var values = [Float](repeating: 0, count: count)
    for module in stack where config.architecture.biases.contains(module) {
      let bias = try vector(module.fullName(layer: layer) + ".bias", count: module.shape(config).output)
      guard let first = offsets[module] else { continue }
      values.replaceSubrange(first..<first + bias.count, with: bias)
    }
    try values.withUnsafeBytes { try put($0) }
  }

  /// Writes a matrix as f32 values, [group][column][16].
  private func writeExact(_ name: String, _ put: (UnsafeRawBufferPointer) throws -> Void) throws {
    try forEachTile(name, identifies: true) { tile, _ in try tile.withUnsafeBytes { try put($0) } }
  }

  private func writeHeadBytes(
    _ name: String, _ block: Int, scales: inout [Float], _ put: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    try forEachTile(name, identifies: false) { tile, columns in
      var bytes = [Int8](repeating: 0, count: tile.count)
      var groupScales = [Float](repeating: 0, count: columns / block * tileLanes)
      for first in stride(from: 0, to: tile.count, by: columns * tileLanes) {
        tile.withUnsafeBufferPointer { tile in
          bytes.withUnsafeMutableBufferPointer { bytes in
            TileLayout.quantizeGroup(
              tile.baseAddress! + first, columns: columns, block: block, bytes: bytes.baseAddress! + first,
              scale: &groupScales)
          }
        }
        scales += groupScales
      }
      try bytes.withUnsafeBytes { try put($0) }
    }
  }

  /// Calls `body` with a few groups of a matrix at a time, [group][column][16], and the count of its columns.
  /// - Parameter identifies: whether the values are added to the fingerprint
  private func forEachTile(_ name: String, identifies: Bool, _ body: ([Float], Int) throws -> Void) throws {
    guard let shape = source.shape(of: name), shape.count == 2 else { throw ModelError(name, reason: "missing") }
    let (rows, columns) = (shape[0], shape[1])
    var values = [Float](repeating: 0, count: Self.stripRows * columns)
    for first in stride(from: 0, to: rows, by: Self.stripRows) {
      let count = min(Self.stripRows, rows - first)
      try values.withUnsafeMutableBufferPointer { buffer in
        try source.read(name, rows: first..<first + count, into: .init(rebasing: buffer[..<(count * columns)]))
      }
      let read = Array(values[..<(count * columns)])
      if identifies {
        try Self.checkFinite(read, name, columns: columns, firstRow: first)
        fingerprint.add(name, read)
      }
      try body(denseTile(read, rows: count, columns: columns), columns)
    }
  }

  private static func checkFinite(_ values: [Float], _ name: String, columns: Int, firstRow: Int) throws {
    guard let index = values.firstIndex(where: { !$0.isFinite }) else { return }
    throw notFinite(name, element: index, columns: columns, firstRow: firstRow)
  }

  private static func notFinite(_ name: String, element: Int, columns: Int, firstRow: Int) -> ModelError {
    ModelError(name, reason: "row \(firstRow + element / columns), column \(element % columns) is not a finite number")
  }

  private func writeDense(
    _ stack: [Projection], _ layer: Int, _ put: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    for module in stack {
      let name = module.fullName(layer: layer) + ".weight"
      if source.storage(of: name) == .exact {
        try writeExact(name, put)
        continue
      }
      try forEachStrip(of: module, layer) { strip in
        var values = [Float](repeating: 0, count: strip.rows * strip.columns)
        for i in values.indices {
          values[i] = NF4.values[Int(strip.code(i))] * strip.scale(i)
        }
        let tile = denseTile(values, rows: strip.rows, columns: strip.columns)
        try tile.withUnsafeBytes { try put($0) }
      }
    }
  }

  private func writeCodes(
    _ stack: [Projection], _ layer: Int, _ block: Int, scales: inout [Float],
    _ put: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    for module in stack {
      try forEachStrip(of: module, layer) { strip in
        let groups = TileLayout.groups(strip.rows)
        let tileBytes = strip.columns * 8
        var tiles = [UInt8](repeating: 0, count: groups * tileBytes)
        var codes = [UInt8](repeating: 0, count: tileLanes * strip.columns)
        for group in 0..<groups {
          let rows = min(tileLanes, strip.rows - group * tileLanes)
          let first = group * tileLanes * strip.columns
          for i in 0..<rows * strip.columns { codes[i] = strip.code(first + i) }
          tiles.withUnsafeMutableBufferPointer { buffer in
            TileLayout.packGroup(
              codes: codes, rows: rows, columns: strip.columns, tile: buffer.baseAddress! + group * tileBytes)
          }
          for b in 0..<strip.columns / block {
            for lane in 0..<tileLanes {
              let element = first + lane * strip.columns + b * block
              scales.append(lane < rows ? strip.scale(element) : 0)
            }
          }
        }
        try tiles.withUnsafeBytes { try put($0) }
      }
    }
  }

  private func denseTile(_ values: [Float], rows: Int, columns: Int) -> [Float] {
    var tile = [Float](repeating: 0, count: TileLayout.denseCount(outputs: rows, columns: columns))
    for row in 0..<rows {
      for column in 0..<columns {
        tile[TileLayout.denseIndex(row: row, column: column, columns: columns)] = values[row * columns + column]
      }
    }
    return tile
  }

  // MARK: quantising

  /// Some rows of a projection as codes and scales, row-major.
  private struct Strip {
    var rows: Int
    var columns: Int
    var blockSize: Int
    var packed: [UInt8]
    var absmax: [Float]
    /// How many elements of the first block are before the strip.
    var phase = 0

    func scale(_ element: Int) -> Float { absmax[(phase + element) / blockSize] }
    func code(_ element: Int) -> UInt8 {
      element % 2 == 0 ? packed[element / 2] >> 4 : packed[element / 2] & 15
    }
  }

  /// Calls `body` with all rows of a projection in order, 64 at a time.
  private func forEachStrip(of module: Projection, _ layer: Int, _ body: (Strip) throws -> Void) throws {
    let name = module.fullName(layer: layer) + ".weight"
    let (rows, columns) = module.shape(source.config)
    let stored = try source.nf4(name)
    let round = Self.stripRows * pool.threadCount
    for first in stride(from: 0, to: rows, by: round) {
      let count = min(round, rows - first)
      if let stored {
        for start in stride(from: first, to: first + count, by: Self.stripRows) {
          try identify(name, strip(of: stored, start..<min(start + Self.stripRows, rows), columns), body)
        }
        continue
      }
      var values = [Float](repeating: 0, count: count * columns)
      try values.withUnsafeMutableBufferPointer { try source.read(name, rows: first..<first + count, into: $0) }
      for strip in try quantize(values, columns: columns, firstRow: first, name: name) {
        try identify(name, strip, body)
      }
    }
  }

  private func identify(_ name: String, _ strip: Strip, _ body: (Strip) throws -> Void) throws {
    fingerprint.add(name, strip.packed)
    fingerprint.add(name, strip.absmax)
    try body(strip)
  }

  private func strip(of tensor: NF4Tensor, _ rows: Range<Int>, _ columns: Int) -> Strip {
    let first = rows.lowerBound * columns
    let last = rows.upperBound * columns
    return Strip(
      rows: rows.count, columns: columns, blockSize: tensor.blockSize,
      packed: Array(tensor.packed[first / 2..<(last + 1) / 2]),
      absmax: Array(tensor.absmax[first / tensor.blockSize..<(last + tensor.blockSize - 1) / tensor.blockSize]),
      phase: first % tensor.blockSize)
  }

  private func quantize(_ values: [Float], columns: Int, firstRow: Int, name: String) throws -> [Strip] {
    let size = Self.stripRows * columns
    let count = (values.count + size - 1) / size
    nonisolated(unsafe) var results = [Result<Strip, NF4Error>?](repeating: nil, count: count)
    values.withUnsafeBufferPointer { values in
      results.withUnsafeMutableBufferPointer { results in
        nonisolated(unsafe) let (values, results) = (values, results)
        pool.run(parts: count) { part in
          let strip = Array(values[part * size..<min((part + 1) * size, values.count)])
          do throws(NF4Error) {
            let (packed, absmax) = try NF4.quantize(strip)
            results[part] = .success(
              Strip(
                rows: strip.count / columns, columns: columns, blockSize: NF4.blockSize, packed: packed, absmax: absmax)
            )
          } catch {
            results[part] = .failure(error)
          }
        }
      }
    }
    return try results.enumerated().map { part, result in
      switch result! {
      case .success(let strip): return strip
      case .failure(.notFinite(let index)):
        throw Self.notFinite(name, element: part * size + index, columns: columns, firstRow: firstRow)
      }
    }
  }
}
