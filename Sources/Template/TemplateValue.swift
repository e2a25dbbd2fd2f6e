/// A variable that a template is rendered with: JSON's values, objects in their order.
public enum TemplateValue: Equatable, Sendable {
  case null
  case bool(Bool)
  case int(Int)
  case double(Double)
  case string(String)
  case array([TemplateValue])
  case object(TemplateObject)

  /// An object of pairs in this order; of equal keys the last value counts, at the first one's place.
  public static func object(_ pairs: KeyValuePairs<String, TemplateValue>) -> TemplateValue {
    .object(TemplateObject(pairs.map { ($0.key, $0.value) }))
  }
}

extension TemplateValue: ExpressibleByStringLiteral, ExpressibleByBooleanLiteral, ExpressibleByIntegerLiteral,
  ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
  public init(stringLiteral value: String) { self = .string(value) }
  public init(booleanLiteral value: Bool) { self = .bool(value) }
  public init(integerLiteral value: Int) { self = .int(value) }
  public init(arrayLiteral elements: TemplateValue...) { self = .array(elements) }
  public init(dictionaryLiteral elements: (String, TemplateValue)...) { self = .object(TemplateObject(elements)) }
}

/// Keys and values in the order in which they were given. Equal keys are resolved when a template reads the object.
public struct TemplateObject: Equatable, Sendable {
  public struct Member: Equatable, Sendable {
    public var key: String
    public var value: TemplateValue

    public init(key: String, value: TemplateValue) {
      self.key = key
      self.value = value
    }
  }

  public var members: [Member]

  public init(_ pairs: [(String, TemplateValue)] = []) {
    members = pairs.map { Member(key: $0.0, value: $0.1) }
  }

  /// The last value under `key`. Setting replaces it in its place, or appends; setting nil removes.
  public subscript(key: String) -> TemplateValue? {
    get { members.last { $0.key == key }?.value }
    set {
      if let newValue {
        if let place = members.lastIndex(where: { $0.key == key }) {
          members[place].value = newValue
        } else {
          members.append(Member(key: key, value: newValue))
        }
      } else {
        members.removeAll { $0.key == key }
      }
    }
  }
}
