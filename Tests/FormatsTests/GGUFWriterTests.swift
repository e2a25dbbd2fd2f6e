import Foundation
import TestSupport
import Testing

@testable import Formats

@Suite struct GGUFWriterTests {
  @Test func writesWhatItReads() throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    let url = folder.url.appending(path: "w.gguf")
    let writer = try GGUFWriter(
      url,
      metadata: [
        ("general.name", .string("é")), ("a", .uint32(7)), ("b", .float32(0.5)), ("c", .encoded([7, 0, 0, 0, 1])),
      ],
      entries: GGUFWriter.types.map { .init(name: "\($0)", type: $0, shape: [3, 32]) })
    var random = TinyRandom(seed: 1)
    let values = random.values(96, scale: 3)
    for _ in GGUFWriter.types {
      // In two calls of whole rows.
      try values[..<32].withUnsafeBufferPointer { try writer.append($0) }
      try values[32...].withUnsafeBufferPointer { try writer.append($0) }
    }
    #expect(!FileManager.default.fileExists(atPath: url.path))
    #expect(modelError { try values.withUnsafeBufferPointer { try writer.append($0) } }.contains("more values"))
    try writer.finish()

    let file = try GGUFFile(url)
    #expect(file.metadata == ["general.name": .string("é"), "a": .integer(7), "b": .float(0.5), "c": .bool(true)])
    for type in GGUFWriter.types {
      let tensor = try #require(file.tensors["\(type)"])
      #expect(tensor.type == type && tensor.shape == [3, 32])
      var read = [Float](repeating: 0, count: 96)
      try read.withUnsafeMutableBufferPointer { try file.readRows("\(type)", rows: 0..<3, into: $0) }
      let bound: Float =
        switch type {
        case .f32: 0
        case .f16: 0x1p-11
        case .bf16: 0x1p-8
        // Half a step of a block whose largest magnitude is below 5.2, and the rounding of its scale.
        default: 5.2 / 127 * 0.6
        }
      for (value, read) in zip(values, read) {
        #expect(abs(value - read) <= (type == .q8_0 ? bound : bound * abs(value)))
      }
    }
  }

  /// The inverse of their scale overflows.
  @Test func writesTinyValuesAsZeros() throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    let url = folder.url.appending(path: "w.gguf")
    let writer = try GGUFWriter(url, metadata: [], entries: [.init(name: "t", type: .q8_0, shape: [1, 32])])
    let values = [Float](repeating: 0, count: 31) + [1e-38]
    try values.withUnsafeBufferPointer { try writer.append($0) }
    try writer.finish()
    var read = [Float](repeating: 1, count: 32)
    try read.withUnsafeMutableBufferPointer { try GGUFFile(url).readRows("t", rows: 0..<1, into: $0) }
    #expect(read == [Float](repeating: 0, count: 32))
  }

  @Test func refusesWhatItCannotWrite() throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    let url = folder.url.appending(path: "w.gguf")
    func make(_ type: GGUFTensorType, _ shape: [Int], count: Int = 1) throws -> GGUFWriter {
      let entry = GGUFWriter.Entry(name: "t", type: type, shape: shape)
      return try GGUFWriter(url, metadata: [], entries: Array(repeating: entry, count: count))
    }
    #expect(modelError { _ = try make(.f32, [2], count: 2) }.contains("t: comes twice"))
    #expect(modelError { _ = try make(.q8_0, [2, 33]) }.contains("rows of 33 cannot be stored as Q8_0"))
    #expect(
      modelError { _ = try GGUFWriter(url, metadata: [("k", .uint32(1)), ("k", .uint32(1))], entries: []) }
        .contains("k: comes twice"))
    for type in [GGUFTensorType.f16, .bf16, .q8_0] {
      let writer = try make(type, [32])
      for value in [Float.infinity, .nan, .greatestFiniteMagnitude] {
        let values = [Float](repeating: value, count: 32)
        #expect(
          modelError { try values.withUnsafeBufferPointer { try writer.append($0) } }
            == "w.gguf: t: has values that \(type) cannot hold")
      }
    }
    #expect(modelError { try make(.f32, [2]).finish() }.contains("t: was not written whole"))
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.url.path).isEmpty)
  }

  /// Conversion to 16 bits, against the definition: of all numbers of the format, the nearest; at a tie, the even one.
  @Test func roundsToTheNearest() {
    for (bits, back) in [
      (FloatConversion.halfBits, FloatConversion.half), (FloatConversion.bfloat16Bits, FloatConversion.bfloat16),
    ] as [((Float) -> UInt16, (UInt16) -> Float)] {
      for code in stride(from: UInt16(0), to: 0x7BFF, by: 7) {
        let (low, high) = (back(code), back(code + 1))
        guard high.isFinite else { continue }
        let middle = Float((Double(low) + Double(high)) / 2)
        #expect(bits(low) == code && bits(-low) == code | 0x8000)
        guard middle > low, middle < high else { continue }
        let even = code + code % 2
        #expect(bits(middle) == even)
        #expect(bits(middle.nextDown) == code)
        #expect(bits(middle.nextUp) == code + 1)
      }
      #expect(back(bits(.infinity)) == .infinity && back(bits(.nan)).isNaN)
    }
    #expect(FloatConversion.halfBits(FloatConversion.largestHalf) == 0x7BFF)
    #expect(FloatConversion.halfBits(FloatConversion.largestHalf.nextUp) == 0x7C00)
    #expect(FloatConversion.bfloat16Bits(FloatConversion.largestBFloat16) == 0x7F7F)
    #expect(FloatConversion.bfloat16Bits(FloatConversion.largestBFloat16.nextUp) == 0x7F80)
  }

  @Test func folderAppearsWholeOrNotAtAll() throws {
    let root = try TemporaryFolder()
    defer { root.remove() }
    let url = root.url.appending(path: "new/target")
    do {
      let folder = try AtomicFolder(url)
      try AtomicFile.write([UInt8](), to: folder.file("a"))
      #expect(!FileManager.default.fileExists(atPath: url.path))
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: root.url.appending(path: "new").path).isEmpty)
    // An empty folder is replaced.
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    let folder = try AtomicFolder(url)
    let source = try root.write("b", "text")
    try folder.copy(source)
    try folder.finish()
    #expect(try FileManager.default.contentsOfDirectory(atPath: url.path) == ["b"])
    #expect(try String(contentsOf: url.appending(path: "b"), encoding: .utf8) == "text")
    #expect(modelError { _ = try AtomicFolder(url) }.hasSuffix("is not empty; name a new folder"))
    #expect(modelError { _ = try AtomicFolder(source) }.hasSuffix("exists already; name a new file or folder"))
    // Something appears while the folder is being written.
    let late = try AtomicFolder(root.url.appending(path: "late"))
    _ = try root.write("late", "first")
    #expect(modelError { try late.finish() }.contains("cannot be written"))
  }
}
