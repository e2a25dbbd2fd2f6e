import TestSupport
import Foundation
import Testing

@testable import Formats

@Suite struct SafetensorsTests {
  private func file(_ header: String, data: Int, in folder: TemporaryFolder) throws -> URL {
    let length = UInt64(header.utf8.count)
    let bytes = (0..<8).map { UInt8(length >> (8 * $0) & 255) } + Array(header.utf8)
    return try folder.write("t.safetensors", bytes + [UInt8](repeating: 1, count: data))
  }

  /// Hashing such a name would take hours.
  @Test func refusesNamesOfMarks() throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    func write(_ marks: Int) throws -> URL {
      let name = "a" + String(repeating: "\u{316}\u{301}", count: marks)
      let header = Array("{\"\(name)\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}".utf8)
      let length = withUnsafeBytes(of: UInt64(header.count).littleEndian) { Array($0) }
      return try folder.write("m.safetensors", length + header + [0, 0, 0, 0])
    }
    #expect(throws: Never.self) { try SafetensorsFile(write(128)) }
    for count in [129, 500_000] {
      let url = try write(count)
      #expect(modelError { _ = try SafetensorsFile(url) }.hasSuffix("more than 256 combining marks in a row"))
    }
  }

  @Test func writesWhatItReads() throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    let url = folder.url.appendingPathComponent("w.safetensors")
    let writer = try SafetensorsWriter(
      url,
      entries: [
        .init(name: "bytes \"\\\u{1}é", type: .u8, shape: [3]), .init(name: "b", type: .f32, shape: [2, 2]),
        .init(name: "a", type: .f32, shape: []), .init(name: "none", type: .i64, shape: [0, 4]),
      ], metadata: ["format": "pt", "note": "a\n\"b\""])
    #expect(writer.order.map(\.name) == ["none", "a", "b", "bytes \"\\\u{1}é"])
    for piece in [[Float(7)], [1, -2, 3], [.nan]] { try piece.withUnsafeBytes { try writer.append($0) } }
    #expect(!FileManager.default.fileExists(atPath: url.path))
    #expect(modelError { try writer.finish() }.contains("was not written whole"))
    try [UInt8]([9, 8, 7]).withUnsafeBytes { try writer.append($0) }
    #expect(modelError { try [UInt8]([0]).withUnsafeBytes { try writer.append($0) } }.contains("more bytes"))
    try writer.finish()

    let file = try SafetensorsFile(url)
    #expect(file.metadata == ["format": "pt", "note": "a\n\"b\""])
    #expect(try file.floats("a") == [7])
    #expect(try bits(file.floats("b")) == bits([1, -2, 3, .nan]))
    #expect(try file.bytes("bytes \"\\\u{1}é") == [9, 8, 7])
    #expect(try file.tensor("none").elementCount == 0)
    #expect(modelError { _ = try file.floats("bytes \"\\\u{1}é") }.contains("type U8 instead of F32, F16 or BF16"))
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.url.path) == ["w.safetensors"])
  }

  /// Every 8-bit float, and doubles, are what torch converts them to (scripts/fixtures/quantized_fixtures.py).
  @Test(arguments: ["e4m3", "e5m2", "f64"]) func readsFloats(name: String) throws {
    let file = try SafetensorsFile(formatFixture("floats.safetensors"))
    let (values, expected) = (try file.floats(name), try file.floats("\(name).f32"))
    #expect(values.count == (name == "f64" ? 64 : 256))
    for (value, reference) in zip(values, expected) {
      #expect(value.isNaN ? reference.isNaN : value.bitPattern == reference.bitPattern)
    }
  }

  @Test func anUnfinishedFileLeavesNothing() throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    do {
      let entry = SafetensorsWriter.Entry(name: "a", type: .f32, shape: [1])
      _ = try SafetensorsWriter(folder.url.appendingPathComponent("w.safetensors"), entries: [entry])
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.url.path).isEmpty)
  }

  @Test(arguments: [
    (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 8, ""),
    (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 7, "a: truncated"),
    (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 9, "1 bytes after the last tensor"),
    (#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8, "a: 8 bytes do not hold F32 [3]"),
    (#"{"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}"#, 8, "a: unknown dtype F33"),
    (#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,8]}}"#, 8, "a: a dimension that is no size"),
    (#"{"a":{"dtype":"U8","shape":[8],"data_offsets":[8,0]}}"#, 8, "a: no data_offsets"),
    (#"{"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#, 8, "a: shape too large"),
    (#"{"a":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}}"#, 0, "do not hold F64"),
    (#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}"#, 8, "a: leaves a gap before it"),
    (
      #"{"a":{"dtype":"U8","shape":[5],"data_offsets":[0,5]},"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}"#, 8,
      "b: overlaps the tensor before it"
    ),
    (#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{}}"#, 0, "a key comes twice"),
    (#"[]"#, 0, "the header is not a JSON object"), (#"{"#, 0, "malformed JSON"),
    (#"{"__metadata__":{"a":1}}"#, 0, "a: not a string"),
  ]) func checksTheHeader(header: String, data: Int, reason: String) throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    let url = try file(header, data: data, in: folder)
    if reason.isEmpty {
      #expect(try SafetensorsFile(url).tensor("a").shape == [2])
    } else {
      let message = modelError { _ = try SafetensorsFile(url) }
      #expect(message.hasPrefix("t.safetensors: ") && message.contains(reason), "\(message)")
    }
  }

  @Test func checksTheHeaderLength() throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    let url = try folder.write("t.safetensors", [UInt8](repeating: 0xFF, count: 64))
    #expect(modelError { _ = try SafetensorsFile(url) }.contains("more than the 100000000 allowed"))
    let short = try folder.write("s.safetensors", [100, 0, 0, 0, 0, 0, 0, 0, 0x7B])
    #expect(modelError { _ = try SafetensorsFile(short) }.contains("truncated"))
    #expect(modelError { _ = try SafetensorsFile(folder.url) }.contains("not a regular file"))
    let mapped = try MappedFile(short)
    #expect(modelError { _ = try mapped.bytes(offset: 5, count: 5) }.contains("truncated"))
    #expect(modelError { _ = try mapped.bytes(offset: Int.max, count: Int.max) }.contains("truncated"))
    #expect(modelError { _ = try mapped.bytes(offset: -1, count: 1) }.contains("truncated"))
    let last = try withExtendedLifetime(mapped) { try Array(mapped.bytes(offset: 8, count: 1)) }
    #expect(last == [0x7B])
  }

  @Test func parsesJSON() {
    let counts: [(text: String, count: Int?)] = [
      ("[1, -0, 2.5e1, 1E400]", nil), ("[1, 0.5, -2e-1]", 3), ("[01]", nil), ("[1.]", nil), ("[+1]", nil),
      ("[NaN]", nil), ("[\"\\ud83d\\ude00\", \"\\u00e9\\n\"]", 2), ("[\"\\ud83d\"]", nil), ("[\"\\x\"]", nil),
      ("[\"a\nb\"]", nil), ("[true, false, null]", 3), ("[tru]", nil), ("[1,]", nil), ("[1] 2", nil), (" [ ] ", 0),
      ("", nil), (String(repeating: "[", count: 100_000), nil), ("[\"é", nil),
    ]
    for (text, count) in counts {
      #expect((try? JSONValue.parse(text.utf8, subject: "t"))?.array?.count == count, "\(text.prefix(40))")
    }
    #expect((try? JSONValue.parse([0x22, 0xFF, 0x22], subject: "t")) == nil)
  }

  @Test func keepsTheOrderOfKeys() throws {
    let value = try JSONValue.parse(#"{"b": 1, "a": {"z": [], "y": "\ud83d\ude00"}}"#.utf8, subject: "t")
    let object = try #require(value.object)
    #expect(object.keys == ["b", "a"] && object["a"]?.object?.keys == ["z", "y"])
    #expect(object["a"]?.object?["y"] == .string("😀"))
  }
}
