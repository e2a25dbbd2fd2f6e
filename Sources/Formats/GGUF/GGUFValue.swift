/// A metadata value of a GGUF file. Integers of all widths are an `Int`, except unsigned ones beyond its range.
public enum GGUFValue: Sendable, Equatable {
  /// An integer within the range of `Int`.
  case integer(Int)
  /// An unsigned integer beyond the range of `Int`.
  case large(UInt64)
  /// A 32-bit or 64-bit float.
  case float(Double)
  /// A boolean.
  case bool(Bool)
  /// A string.
  case string(String)
  /// An array, whose elements are read on demand.
  case array(GGUFArray)
}

/// An array in a GGUF file's metadata. Its elements stay in the file until they are read; that they are inside the file has
/// been checked.
public struct GGUFArray: Sendable, Equatable {
  let elementType: GGUFValueType
  /// Elements.
  public let count: Int
  let offset: Int
}

/// The type codes of metadata values (ggml-org/ggml, docs/gguf.md).
enum GGUFValueType: UInt32, Sendable {
  case uint8 = 0
  case int8, uint16, int16, uint32, int32, float32, bool, string, array, uint64, int64, float64

  /// Size in the file; `nil` if it varies.
  var size: Int? {
    switch self {
    case .uint8, .int8, .bool: 1
    case .uint16, .int16: 2
    case .uint32, .int32, .float32: 4
    case .uint64, .int64, .float64: 8
    case .string, .array: nil
    }
  }

  /// The minimum size of a value in the file, which bounds how many values there can be.
  var minimumSize: Int {
    switch self {
    case .string: 8
    case .array: 12
    default: size ?? 1
    }
  }
}

extension GGUFReader {
  private static let arrayDepthLimit = 8

  mutating func valueType() throws -> GGUFValueType {
    let code = try integer(UInt32.self)
    guard let type = GGUFValueType(rawValue: code) else {
      throw ModelError(file.name, reason: "unknown metadata type \(code) at byte \(offset - 4)")
    }
    return type
  }

  mutating func value(_ type: GGUFValueType) throws -> GGUFValue {
    switch type {
    case .uint8: .integer(Int(try integer(UInt8.self)))
    case .int8: .integer(Int(try integer(Int8.self)))
    case .uint16: .integer(Int(try integer(UInt16.self)))
    case .int16: .integer(Int(try integer(Int16.self)))
    case .uint32: .integer(Int(try integer(UInt32.self)))
    case .int32: .integer(Int(try integer(Int32.self)))
    case .int64: .integer(Int(try integer(Int64.self)))
    case .uint64: unsigned(try integer(UInt64.self))
    case .float32: .float(Double(try float()))
    case .float64: .float(try double())
    case .bool: .bool(try bool())
    case .string: .string(try string())
    case .array: .array(try array(depth: 0))
    }
  }

  private func unsigned(_ value: UInt64) -> GGUFValue { Int(exactly: value).map { .integer($0) } ?? .large(value) }

  /// Skips an array, and checks that it is inside the file.
  private mutating func array(depth: Int) throws -> GGUFArray {
    guard depth < Self.arrayDepthLimit else {
      throw ModelError(file.name, reason: "metadata arrays nested more than \(Self.arrayDepthLimit) deep")
    }
    let type = try valueType()
    let count = try count(limit: (remaining - 8) / type.minimumSize, of: "elements of an array")
    let array = GGUFArray(elementType: type, count: count, offset: offset)
    if type.size == nil { try willPassOver(count) }
    switch type {
    case .string: for _ in 0..<count { try skipString() }
    case .array: for _ in 0..<count { _ = try self.array(depth: depth + 1) }
    default: try skip(count * type.minimumSize)
    }
    return array
  }
}
