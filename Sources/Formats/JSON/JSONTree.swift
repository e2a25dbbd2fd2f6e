/// A JSON document (RFC 8259) whose objects keep every member in order.
///
/// Vocabularies need this instead of a dictionary with strings as keys: Swift's strings are equal if they are canonically
/// equivalent, so "é" and "e" + U+0301, which are two tokens, would be one key. `JSONValue` refuses such objects.
package enum JSONTree: Sendable {
  case null
  case bool(Bool)
  case number(Double)
  case string(String)
  case array([JSONTree])
  case object([Member])

  /// A key with its value.
  package typealias Member = (key: String, value: JSONTree)

  /// The value of a key, of equal keys the last; `nil` if there is none, if it is null, and if this is no object.
  package subscript(key: StaticString) -> JSONTree? {
    guard case .object(let members) = self else { return nil }
    let name = key.description
    guard let value = members.last(where: { $0.key.utf8.elementsEqual(name.utf8) })?.value else { return nil }
    if case .null = value { return nil }
    return value
  }

  /// The string; `nil` for another kind.
  package var string: String? { if case .string(let value) = self { value } else { nil } }
  /// The boolean; `nil` for another kind.
  package var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  /// The elements; `nil` for another kind.
  package var array: [JSONTree]? { if case .array(let value) = self { value } else { nil } }
  /// The members in the order of the text; `nil` for another kind.
  package var members: [Member]? { if case .object(let value) = self { value } else { nil } }
  /// The token id; `nil` if this is no whole, non-negative number.
  package var tokenID: Int32? {
    guard case .number(let value) = self, value >= 0 else { return nil }
    return Int32(exactly: value)
  }
}

extension JSONTree: JSONDocument {
  /// A number; a tree does not distinguish integers.
  package static func integer(_ value: Int) -> JSONTree { .number(Double(value)) }
  /// An object; keys may repeat.
  package static func object(members: [Member]) -> JSONTree? { .object(members) }

  /// The limits of a vocabulary's document. Those of the largest published vocabularies have four million values.
  package static let limits = JSONLimits.file(values: 1 << 26)

  /// Parses a whole document. A byte order mark before it is skipped.
  package init(
    _ bytes: UnsafeBufferPointer<UInt8>, limits: JSONLimits = JSONTree.limits
  ) throws(JSONSyntaxError) {
    var parser = JSONParser<JSONTree>(
      bytes, start: bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0, limits: limits)
    self = try parser.document()
  }
}
