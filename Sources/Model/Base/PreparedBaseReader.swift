import Formats
public import Foundation
public import Kernels

extension Base {
  /// Maps a prepared base and checks the checksum of every section that the mode reads. The pages of other sections are not
  /// touched.
  /// - Throws: `ModelError` naming the file and the section that is damaged, or the format version
  public convenience init(prepared url: URL, mode: ComputeMode = .f32) throws {
    let file = try MappedFile(url)
    let header = try PreparedBaseHeader(file)
    let reader = PreparedBaseReader(file: file, header: header, mode: mode)
    let config = header.config
    // First, so that its pages, of which the checksum reads every one, are not in memory together with the layers'. Without
    // f32 mode's tied head, a token reads only its own row.
    let embedding = try reader.exact(PreparedBaseLayout.embedding)
    if mode != .f32 || !config.tiedHead { reader.discard(PreparedBaseLayout.embedding) }
    var layers: [Layer] = []
    for index in 0..<config.layerCount {
      layers.append(
        try Layer(
          norm: { norm in
            try config.name(of: norm, layer: index).map { try reader.floats($0, count: config.size(of: norm)) }
          },
          queryKeyValue: try reader.stack(.queryKeyValue, index), output: try reader.stack(.output, index),
          gateUp: try reader.stack(.gateUp, index), down: try reader.stack(.down, index)))
    }
    self.init(
      config: config, fingerprint: header.fingerprint, layers: layers,
      finalNorm: try reader.floats(PreparedBaseLayout.finalNorm, count: config.hiddenSize), embedding: embedding,
      head: try reader.head(embedding: embedding),
      exactHead: config.tiedHead ? embedding : try reader.exact(PreparedBaseLayout.head, isVerified: mode == .f32),
      owner: file)
  }
}

extension PreparedBaseHeader {
  /// Reads and checks the header of a prepared file.
  init(_ file: MappedFile) throws {
    self = try Self.codec.decode(Self.self, of: file).header
    try config.validate(file.url.path)
    // The checksums of sections that a mode does not read are not compared, so their extents are checked here: a file that
    // was made shorter is always refused.
    for section in sections {
      guard section.offset >= 0, section.length >= 0, section.offset <= file.count,
        section.length <= file.count - section.offset
      else { throw ModelError(file.url.path, section.name, reason: "beyond the file's end; prepare it again") }
    }
  }
}

extension PreparedBaseHeader {
  /// Reads a prepared file's header and checks every section's checksum, with only a part of the file in memory at a time.
  /// - Throws: `ModelError` naming the file and the section that is damaged
  static func verifyingAll(of url: URL) throws -> PreparedBaseHeader {
    let file = try MappedFile(url)
    let header = try PreparedBaseHeader(file)
    let partSize = 8 << 20
    for section in header.sections {
      var checksum = Checksum()
      for start in stride(from: 0, to: section.length, by: partSize) {
        let count = min(partSize, section.length - start)
        let bytes = try file.bytes(offset: section.offset + start, count: count)
        checksum.update(bytes)
        file.mapping?.discard(bytes)
      }
      guard checksum.finish() == section.checksum else {
        throw ModelError(url.path, section.name, reason: "damaged (its checksum differs); prepare it again")
      }
    }
    return header
  }
}

/// Finds sections by name and checks their offset, size and checksum.
private struct PreparedBaseReader {
  let file: MappedFile
  let config: ModelConfig
  let mode: ComputeMode
  let sections: [String: PreparedBaseHeader.Section]

  init(file: MappedFile, header: PreparedBaseHeader, mode: ComputeMode) {
    self.file = file
    self.mode = mode
    config = header.config
    sections = Dictionary(header.sections.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
  }

  /// - Parameters:
  ///   - count: the bytes that the section must have
  ///   - isVerified: whether its checksum is compared, which reads every page
  /// - Throws: `ModelError` naming the section
  private func section(_ name: String, count: Int, isVerified: Bool = true) throws -> UnsafeRawPointer {
    guard let section = sections[name] else { throw failure(name, "missing") }
    guard section.length == count, section.offset >= 0, section.offset % 64 == 0, section.offset <= file.count,
      section.length <= file.count - section.offset
    else { throw failure(name, "not where or as large as it should be") }
    let bytes = try file.bytes(offset: section.offset, count: count)
    guard !isVerified || Checksum.of(bytes) == section.checksum else {
      throw failure(name, "damaged (its checksum differs)")
    }
    return bytes.baseAddress!
  }

  /// Unmaps a section's pages until they are read again.
  func discard(_ name: String) {
    guard let section = sections[name], let bytes = try? file.bytes(offset: section.offset, count: section.length)
    else { return }
    file.mapping?.discard(bytes)
  }

  private func failure(_ name: String, _ reason: String) -> ModelError {
    ModelError(file.url.path, name, reason: reason + "; prepare it again")
  }

  func floats(_ name: String, count: Int) throws -> UnsafePointer<Float> {
    try section(name, count: count * 4).assumingMemoryBound(to: Float.self)
  }

  private func halfScale(_ name: String, count: Int) throws -> HalfScale {
    let values = try section(name, count: count * 2).assumingMemoryBound(to: UInt16.self)
    guard let exponent = sections[name]?.exponent, HalfScale.exponents.contains(exponent) else {
      throw failure(name, "without a unit")
    }
    return HalfScale(values: values, exponent: exponent)
  }

  /// The exact head for f32 mode; for other modes the rounded one, if there is one.
  func head(embedding: Matrix) throws -> Matrix {
    let (outputs, columns) = (config.vocabularySize, config.hiddenSize)
    guard mode != .f32, let block = TileLayout.scaleBlock(columns: columns, blockSize: 64) else {
      return config.tiedHead ? embedding : try exact(PreparedBaseLayout.head)
    }
    let bytes = try section(
      PreparedBaseLayout.headBytes, count: TileLayout.denseCount(outputs: outputs, columns: columns))
    let scale = try halfScale(
      PreparedBaseLayout.headScales, count: TileLayout.scaleCount(outputs: outputs, columns: columns, block: block))
    return Matrix(int8: bytes, scale: scale, outputs: outputs, columns: columns, block: block, owner: file)
  }

  func exact(_ name: String, isVerified: Bool = true) throws -> Matrix {
    let count = TileLayout.denseCount(outputs: config.vocabularySize, columns: config.hiddenSize)
    let data = try section(name, count: count * 4, isVerified: isVerified)
    return Matrix(
      dense: data.assumingMemoryBound(to: Float.self), outputs: config.vocabularySize, columns: config.hiddenSize,
      owner: file)
  }

  func stack(_ place: ProjectionStack, _ layer: Int) throws -> StackedWeights {
    let modules = place.projections(config)
    let (offsets, outputs) = StackedWeights.layout(modules, config)
    let columns = modules[0].shape(config).input
    let name = PreparedBaseLayout.stackName(modules, layer)
    let isBiased = modules.contains(where: config.architecture.biases.contains)
    let bias = isBiased ? try floats(name + ".bias", count: outputs) : nil
    if sections[name] != nil {
      let data = try section(name, count: TileLayout.denseCount(outputs: outputs, columns: columns) * 4)
      let matrix = Matrix(
        dense: data.assumingMemoryBound(to: Float.self), outputs: outputs, columns: columns, owner: file)
      return StackedWeights(matrix: matrix, offsets: offsets, bias: bias)
    }
    let codes = try section(name + ".codes", count: TileLayout.codeBytes(outputs: outputs, columns: columns))
    // The size of the scales' section says how many columns share a scale.
    let scaleBytes = sections[name + ".absmax"]?.length ?? 0
    guard
      let block = [64, 32, 16, 8].first(where: {
        columns % $0 == 0 && TileLayout.scaleCount(outputs: outputs, columns: columns, block: $0) * 4 == scaleBytes
      })
    else { throw failure(name + ".absmax", "not as large as it should be") }
    let scale = try section(name + ".absmax", count: scaleBytes)
    let half = mode == .f32 ? nil : try halfScale(name + ".absmax16", count: scaleBytes / 4)
    let matrix = Matrix(
      nf4: codes, scale: scale.assumingMemoryBound(to: Float.self), halfScale: half, outputs: outputs,
      columns: columns, block: block, owner: file)
    return StackedWeights(matrix: matrix, offsets: offsets, bias: bias)
  }
}
