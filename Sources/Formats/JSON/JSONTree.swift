/// A JSON document (RFC 8259) whose objects keep every member in order.
///
/// Vocabularies need this rather than a dictionary of strings: Swift's strings are equal when they are
/// canonically equivalent, so "é" and "e" + U+0301, which are two tokens, would be one key.
package enum JSONTree: Sendable {
  case null
  case bool(Bool)
  case number(Double)
  case string(String)
  case array([JSONTree])
  case object([Member])

  package typealias Member = (key: String, value: JSONTree)

  /// The member of this name, the last one if there are several; `nil` for none, `null`, or no object.
  package subscript(key: StaticString) -> JSONTree? {
    guard case .object(let members) = self else { return nil }
    let name = key.description
    guard let value = members.last(where: { $0.key.utf8.elementsEqual(name.utf8) })?.value else { return nil }
    if case .null = value { return nil }
    return value
  }

  package var string: String? { if case .string(let value) = self { value } else { nil } }
  package var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  package var array: [JSONTree]? { if case .array(let value) = self { value } else { nil } }
  package var members: [Member]? { if case .object(let value) = self { value } else { nil } }
  /// A number that is a whole, non-negative token id.
  package var tokenID: Int32? {
    guard case .number(let value) = self, value >= 0 else { return nil }
    return Int32(exactly: value)
  }
}

extension JSONTree: JSONDocument {
  package static func integer(_ value: Int) -> JSONTree { .number(Double(value)) }
  package static func object(members: [Member]) -> JSONTree? { .object(members) }

  /// Parses a whole document, before which a byte order mark may stand.
  package init(_ bytes: UnsafeBufferPointer<UInt8>) throws(JSONSyntaxError) {
    var parser = JSONParser<JSONTree>(bytes, start: bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0)
    self = try parser.document()
  }
}
