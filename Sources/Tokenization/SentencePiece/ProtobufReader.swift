/// Reads the fields of a protobuf message, one after the other (protobuf.dev, "Encoding").
struct ProtobufReader {
  /// A field's number and its value.
  struct Field {
    let number: Int
    let value: Value
  }

  enum Value {
    /// An integer, an enumeration or a boolean.
    case integer(UInt64)
    case fixed32(UInt32)
    case fixed64(UInt64)
    /// A string, bytes or a message.
    case bytes(ArraySlice<UInt8>)
  }

  private var rest: ArraySlice<UInt8>

  init(_ message: ArraySlice<UInt8>) { rest = message }

  /// The next field; `nil` at the end of the message.
  /// - Throws: `ProtobufError` for what is no message
  mutating func next() throws(ProtobufError) -> Field? {
    if rest.isEmpty { return nil }
    let start = rest.startIndex
    let tag = try integer()
    guard tag >> 3 > 0, let number = Int(exactly: tag >> 3), number < 1 << 29 else {
      throw ProtobufError(reason: "no protobuf field at byte \(start)")
    }
    switch tag & 7 {
    case 0: return Field(number: number, value: .integer(try integer()))
    case 1: return Field(number: number, value: .fixed64(try fixed(8)))
    case 2:
      let count = try integer()
      guard count <= rest.count else {
        throw ProtobufError(reason: "field \(number) at byte \(start) has \(count) bytes of \(rest.count)")
      }
      defer { rest = rest.dropFirst(Int(count)) }
      return Field(number: number, value: .bytes(rest.prefix(Int(count))))
    case 5: return Field(number: number, value: .fixed32(UInt32(truncatingIfNeeded: try fixed(4))))
    default: throw ProtobufError(reason: "field \(number) at byte \(start) has the wire type \(tag & 7)")
    }
  }

  private mutating func integer() throws(ProtobufError) -> UInt64 {
    var value: UInt64 = 0
    for shift in stride(from: UInt64(0), to: 64, by: 7) {
      guard let byte = rest.popFirst() else { throw ProtobufError(reason: "ends inside a number") }
      if shift == 63 && byte > 1 { break }
      value |= UInt64(byte & 0x7F) << shift
      if byte < 0x80 { return value }
    }
    throw ProtobufError(reason: "a number of more than 64 bits before byte \(rest.startIndex)")
  }

  private mutating func fixed(_ count: Int) throws(ProtobufError) -> UInt64 {
    guard rest.count >= count else { throw ProtobufError(reason: "ends inside a number") }
    defer { rest = rest.dropFirst(count) }
    return rest.prefix(count).reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }
}

/// Why bytes are no protobuf message.
struct ProtobufError: Error {
  let reason: String
}
