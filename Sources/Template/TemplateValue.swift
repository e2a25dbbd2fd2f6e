/// A variable that a template is rendered with: a JSON value whose objects keep their order.
public enum TemplateValue: Equatable, Sendable {
  /// Python's `None`.
  case null
  /// `True` or `False`.
  case bool(Bool)
  /// An integer.
  case int(Int)
  /// A float.
  case double(Double)
  /// A string.
  case string(String)
  /// A list.
  case array([TemplateValue])
  /// A dictionary.
  case object(TemplateObject)

  /// An object of pairs in this order. If keys are equal, the last value counts, in the position of the first.
  public static func object(_ pairs: KeyValuePairs<String, TemplateValue>) -> TemplateValue {
    .object(TemplateObject(pairs.map { ($0.key, $0.value) }))
  }
}

extension TemplateValue: ExpressibleByStringLiteral, ExpressibleByBooleanLiteral, ExpressibleByIntegerLiteral,
  ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
  /// A string.
  public init(stringLiteral value: String) { self = .string(value) }
  /// A truth value.
  public init(booleanLiteral value: Bool) { self = .bool(value) }
  /// An integer.
  public init(integerLiteral value: Int) { self = .int(value) }
  /// A list.
  public init(arrayLiteral elements: TemplateValue...) { self = .array(elements) }
  /// An object, in the order of the literal.
  public init(dictionaryLiteral elements: (String, TemplateValue)...) { self = .object(TemplateObject(elements)) }
}

/// An object: keys and values in the order in which they were given. Equal keys are kept; a template sees the last value.
public struct TemplateObject: Equatable, Sendable {
  /// A key and its value.
  public struct Member: Equatable, Sendable {
    /// The key.
    public var key: String
    /// Its value.
    public var value: TemplateValue

    /// - Parameters: as the properties
    public init(key: String, value: TemplateValue) {
      self.key = key
      self.value = value
    }
  }

  /// All keys and values, in order.
  public var members: [Member]

  /// An object of pairs in this order.
  public init(_ pairs: [(String, TemplateValue)] = []) {
    members = pairs.map { Member(key: $0.0, value: $0.1) }
  }

  /// The last value of `key`. Setting a value replaces it, or appends a member; setting `nil` removes all members with the key.
  public subscript(key: String) -> TemplateValue? {
    get { members.last { $0.key == key }?.value }
    set {
      if let newValue {
        if let offset = members.lastIndex(where: { $0.key == key }) {
          members[offset].value = newValue
        } else {
          members.append(Member(key: key, value: newValue))
        }
      } else {
        members.removeAll { $0.key == key }
      }
    }
  }
}
