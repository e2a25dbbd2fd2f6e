import Formats
import Foundation
import Kernels
import TestSupport
import Testing

@testable import Model

@Suite struct PreparedTests {
  /// A section's bytes.
  private func section(_ file: [UInt8], _ header: PreparedBaseHeader, _ name: String) throws -> ArraySlice<UInt8> {
    let section = try #require(header.sections.first { $0.name == name }, "\(name)")
    return file[section.offset..<section.offset + section.length]
  }

  private func prepare(
    _ model: TinyModel, threads: Int = 2
  ) throws -> (bytes: [UInt8], header: PreparedBaseHeader, url: URL) {
    let url = model.root.appending(path: "prepared")
    try PreparedBaseWriter.write(try model.source(), sourceHash: "test", to: url, pool: ThreadPool(threads: threads))
    let file = try MappedFile(url)
    return (try file.read(offset: 0, count: file.count), try PreparedBaseHeader(file), url)
  }

  private func floats(_ bytes: ArraySlice<UInt8>) -> [Float] {
    bytes.withUnsafeBytes { raw in
      (0..<raw.count / 4).map { raw.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self) }
    }
  }

  /// Columns of the first linear modules: multiples of 64, and such that blocks straddle rows.
  @Test(arguments: [(128, 8), (96, 6), (48, 3), (64, 4)])
  func codesAndScalesAreThoseOfTheSourceRows(hidden: Int, heads: Int) throws {
    let model = try TinyModel(TinyShape(hidden: hidden, intermediate: 200, heads: heads, keyValueHeads: 1))
    let (bytes, header, _) = try prepare(model)
    let config = header.config
    #expect(config == (try model.source().config))
    for layer in 0..<config.layerCount {
      for stack in ProjectionStack.allCases.map({ $0.projections(config) }) {
        let name = PreparedBaseLayout.stackName(stack, layer)
        let codes = try section(bytes, header, name + ".codes")
        let scales = floats(try section(bytes, header, name + ".absmax"))
        let columns = stack[0].shape(config).input
        let stretch = try #require(TileLayout.scaleBlock(columns: columns, blockSize: 64))
        let offsets = StackedWeights.layout(stack, config).offsets
        for module in stack {
          let tensor = try #require(model.tensors[module.fullName(layer: layer) + ".weight"])
          let (packed, absmax) = try NF4.quantize(tensor.values)
          let first = try #require(offsets[module])
          #expect(first % 16 == 0)
          var wrong = 0
          for row in 0..<tensor.shape[0] {
            let group = (first + row) / 16
            let tile = Array(codes.dropFirst(group * columns * 8).prefix(columns * 8))
            var unpacked = [UInt8](repeating: 255, count: 16 * columns)
            TileLayout.unpackGroup(tile: tile, rows: 16, columns: columns, codes: &unpacked)
            let lane = (first + row) % 16
            for column in 0..<columns {
              let element = row * columns + column
              let code = element % 2 == 0 ? packed[element / 2] >> 4 : packed[element / 2] & 15
              let scale = scales[(group * (columns / stretch) + column / stretch) * 16 + lane]
              if unpacked[lane * columns + column] != code { wrong += 1 }
              if scale.bitPattern != absmax[element / 64].bitPattern { wrong += 1 }
            }
          }
          #expect(wrong == 0, "\(module) of layer \(layer)")
        }
      }
    }
    #expect(floats(try section(bytes, header, "model.norm.weight")) == model.tensors["model.norm.weight"]?.values)
  }

  @Test func columnsThatAreNoMultipleOf8AreKeptDense() throws {
    let model = try TinyModel(TinyShape(hidden: 100, heads: 5, keyValueHeads: 1, headSize: 20))
    let (bytes, header, url) = try prepare(model)
    let values = floats(try section(bytes, header, "model.layers.1.q_proj+k_proj+v_proj"))
    let offsets = StackedWeights.layout([.q, .k, .v], header.config).offsets
    for module in [Projection.q, .k, .v] {
      let tensor = try #require(model.tensors[module.fullName(layer: 1) + ".weight"])
      let (packed, absmax) = try NF4.quantize(tensor.values)
      let expected = NF4.dequantize(packed: packed, absmax: absmax, count: tensor.values.count)
      let first = try #require(offsets[module])
      for (element, value) in expected.enumerated() {
        let index = TileLayout.denseIndex(row: first + element / 100, column: element % 100, columns: 100)
        try #require(values[index].bitPattern == value.bitPattern, "\(module), element \(element)")
      }
    }
    #expect(try Base(prepared: url).config.hiddenSize == 100)
  }

  @Test(arguments: [true, false])
  func headIsTiedOrItsOwn(isTied: Bool) throws {
    let model = try TinyModel(TinyShape(isTied: isTied))
    let (bytes, header, url) = try prepare(model)
    #expect(header.sections.contains { $0.name == "lm_head.weight" } == !isTied)
    let base = try Base(prepared: url)
    let name = isTied ? "model.embed_tokens.weight" : "lm_head.weight"
    let wanted = try #require(model.tensors[name]).values
    var row = [Float](repeating: 0, count: 96)
    base.head.copyRow(299, to: &row)
    #expect(row == Array(wanted[(299 * 96)...]))
    let stored = floats(try section(bytes, header, name))
    #expect(stored[TileLayout.denseIndex(row: 17, column: 5, columns: 96)] == wanted[17 * 96 + 5])
  }

  @Test func everySectionAndTheHeaderAreCheckedForDamage() throws {
    let model = try TinyModel(TinyShape(layers: 1, vocabulary: 280))
    let (bytes, header, url) = try prepare(model)
    _ = try Base(prepared: url)
    _ = try Base(prepared: url, mode: .fast)
    let length = Int(bytes[8]) | Int(bytes[9]) << 8 | Int(bytes[10]) << 16
    var random = TinyRandom(seed: 5)
    // Every byte of the front, and of each section its ends and some between.
    var places = Array(0..<16 + length + HeaderCodec.checksumLength).filter { $0 < 16 || $0 % 3 == 0 }
    for section in header.sections {
      places += [section.offset, section.offset + section.length - 1]
      for _ in 0..<8 { places.append(section.offset + Int.random(in: 0..<section.length, using: &random)) }
    }
    let file = try FileHandle(forUpdating: url)
    defer { try? file.close() }
    func put(_ byte: UInt8, _ place: Int) throws {
      try file.seek(toOffset: UInt64(place))
      try file.write(contentsOf: [byte])
    }
    for place in places {
      try put(bytes[place] ^ (1 << UInt8.random(in: 0..<8, using: &random)), place)
      // A mode reads its own head alone.
      let isRead = ComputeMode.allCases.map { (try? Base(prepared: url, mode: $0)) != nil }
      #expect(isRead.contains(false), "byte \(place)")
      try put(bytes[place], place)
    }
    _ = try Base(prepared: url)
  }

  @Test func truncatedFilesAndOtherVersionsAreRefused() throws {
    let model = try TinyModel(TinyShape(layers: 1))
    let (bytes, header, url) = try prepare(model)
    let end = try #require(header.sections.last { $0.name == "lm_head.weight" })
    for count in [0, 7, 8, 15, 16, 17, 500, 4096, bytes.count / 2, end.offset + end.length - 1] {
      try Data(bytes[..<count]).write(to: url)
      #expect(throws: ModelError.self, "\(count) bytes") { try Base(prepared: url) }
    }
    var other = bytes
    other[12] += 1
    try Data(other).write(to: url)
    #expect(modelError { _ = try Base(prepared: url) }.contains("format \(PreparedBaseHeader.currentVersion + 1)"))
    // A header that says it is longer than any file.
    other = bytes
    for index in 8..<12 { other[index] = 255 }
    try Data(other).write(to: url)
    #expect(modelError { _ = try Base(prepared: url) }.contains("header"))
  }

  @Test func theNumberOfThreadsChangesNoByte() throws {
    let model = try TinyModel(TinyShape(intermediate: 400))
    #expect(try prepare(model, threads: 1).bytes == prepare(model, threads: 3).bytes)
  }

  @Test func aWeightThatIsNoNumberIsNamed() throws {
    let model = try TinyModel(TinyShape(layers: 1))
    let name = "model.layers.0.mlp.down_proj.weight"
    var values = try #require(model.tensors[name]).values
    values[144 * 70 + 3] = .nan
    model.setTensor(name, values)
    try model.writeTensors()
    let message = modelError { _ = try prepare(model) }
    #expect(message.contains(name) && message.contains("row 70, column 3"), "\(message)")
  }

  @Test(arguments: ["nf4", "nf4-nested"])
  func quantizedSourcesKeepTheirCodes(fixture: String) throws {
    let source = try openPublishedModel(at: formatFixture("hf/\(fixture)"))
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    let url = folder.url.appending(path: "prepared")
    try PreparedBaseWriter.write(source, sourceHash: "test", to: url, pool: ThreadPool(threads: 1))
    let file = try MappedFile(url)
    let header = try PreparedBaseHeader(file)
    let bytes = try file.read(offset: 0, count: file.count)
    var checked = 0
    for layer in 0..<header.config.layerCount {
      for stack in ProjectionStack.allCases.map({ $0.projections(header.config) }) {
        let columns = stack[0].shape(header.config).input
        for module in stack {
          guard let stored = try source.nf4(module.fullName(layer: layer) + ".weight") else { continue }
          let name = PreparedBaseLayout.stackName(stack, layer)
          guard let stretch = TileLayout.scaleBlock(columns: columns, blockSize: stored.blockSize) else { continue }
          let codes = try section(bytes, header, name + ".codes")
          let scales = floats(try section(bytes, header, name + ".absmax"))
          let first = try #require(StackedWeights.layout(stack, header.config).offsets[module])
          for element in 0..<stored.shape[0] * columns {
            let (row, column) = (first + element / columns, element % columns)
            let tile = Array(codes.dropFirst(row / 16 * columns * 8).prefix(columns * 8))
            var unpacked = [UInt8](repeating: 255, count: 16 * columns)
            TileLayout.unpackGroup(tile: tile, rows: 16, columns: columns, codes: &unpacked)
            let code = element % 2 == 0 ? stored.packed[element / 2] >> 4 : stored.packed[element / 2] & 15
            let scale = scales[(row / 16 * (columns / stretch) + column / stretch) * 16 + row % 16]
            try #require(unpacked[row % 16 * columns + column] == code)
            try #require(scale.bitPattern == stored.absmax[element / stored.blockSize].bitPattern)
            checked += 1
          }
        }
      }
    }
    #expect(checked > 1000)
    _ = try Base(prepared: url)
  }
}
