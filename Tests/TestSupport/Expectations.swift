public import Formats
import Testing

/// The bit patterns of floats, which are equal where the floats are the same to the last bit, NaN included.
public func bits(_ values: [Float]) -> [UInt32] { values.map(\.bitPattern) }

extension PublishedModel {
  /// Rows of a tensor, all of them by default.
  public func floats(_ name: String, rows: Range<Int>? = nil) throws -> [Float] {
    let shape = try #require(self.shape(of: name), "\(name)")
    let rows = rows ?? 0..<(shape.count == 1 ? 1 : shape[0])
    return try [Float](unsafeUninitializedCapacity: rows.count * (shape.last ?? 1)) { buffer, initialized in
      try read(name, rows: rows, into: buffer)
      initialized = buffer.count
    }
  }
}

/// The message of the `ModelError` that `body` throws; any other outcome fails the test.
public func modelError(_ body: () throws -> Void) -> String {
  do {
    try body()
    Issue.record("nothing was thrown")
    return ""
  } catch let error as ModelError {
    return error.description
  } catch {
    Issue.record("\(type(of: error)): \(error)")
    return ""
  }
}

/// A damaged copy: bytes changed, removed, repeated, or a number replaced by one at an edge of its range.
public func mutated(_ original: [UInt8], using generator: inout TinyRandom) -> [UInt8] {
  var bytes = original
  for _ in 0..<Int.random(in: 1...4, using: &generator) where !bytes.isEmpty {
    let position = Int.random(in: 0..<bytes.count, using: &generator)
    switch Int.random(in: 0..<6, using: &generator) {
    case 0: bytes[position] = UInt8.random(in: 0...255, using: &generator)
    case 1: bytes[position] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
    case 2: bytes.removeSubrange(position..<min(bytes.count, position + Int.random(in: 1...16, using: &generator)))
    case 3: bytes.insert(contentsOf: bytes[position..<min(bytes.count, position + 16)], at: position)
    case 4: bytes.removeSubrange(position...)
    default:
      let edges: [UInt64] = [0, .max, 1 << 63, 1 << 32, 0xFFFF_FFFF, 0x7FFF_FFFF, 1 << 31, 1 << 61]
      let edge = edges.randomElement(using: &generator) ?? 0
      for index in 0..<min(8, bytes.count - position) {
        bytes[position + index] = UInt8(edge >> (8 * UInt64(index)) & 255)
      }
    }
  }
  return bytes
}
