import Formats

/// JSON schemas of the API's bodies and replies, written in short.
enum JSONSchema {
  /// Any value.
  static let any: JSONValue = [:]
  static let string: JSONValue = ["type": "string"]
  /// A string that is not empty.
  static let name: JSONValue = ["type": "string", "minLength": 1]
  static let integer: JSONValue = ["type": "integer"]
  static let number: JSONValue = ["type": "number"]
  static let boolean: JSONValue = ["type": "boolean"]
  /// An object with any members.
  static let object: JSONValue = ["type": "object"]

  static func integer(_ range: ClosedRange<Int>) -> JSONValue {
    ["type": "integer", "minimum": .integer(range.lowerBound), "maximum": .integer(range.upperBound)]
  }

  static func number(_ range: ClosedRange<Double>) -> JSONValue {
    ["type": "number", "minimum": .number(range.lowerBound), "maximum": .number(range.upperBound)]
  }

  /// A string of so many characters.
  static func string(_ length: ClosedRange<Int>) -> JSONValue {
    ["type": "string", "minLength": .integer(length.lowerBound), "maxLength": .integer(length.upperBound)]
  }

  /// A string in which the pattern is found.
  static func string(pattern: String) -> JSONValue { ["type": "string", "pattern": .string(pattern)] }

  static func list(of element: JSONValue, minimum: Int? = nil, maximum: Int? = nil) -> JSONValue {
    var pairs: [(key: String, value: JSONValue)] = [("type", "array"), ("items", element)]
    if let minimum { pairs.append(("minItems", .integer(minimum))) }
    if let maximum { pairs.append(("maxItems", .integer(maximum))) }
    return .object(JSONObject(keepingFirst: pairs))
  }

  static func map(of value: JSONValue) -> JSONValue { ["type": "object", "additionalProperties": value] }

  /// - Parameters:
  ///   - names: the schema of the members' names
  ///   - maximum: how many members there may be
  static func map(of value: JSONValue, names: JSONValue, maximum: Int? = nil) -> JSONValue {
    var pairs: [(key: String, value: JSONValue)] = [
      ("type", "object"), ("propertyNames", names), ("additionalProperties", value),
    ]
    if let maximum { pairs.append(("maxProperties", .integer(maximum))) }
    return .object(JSONObject(keepingFirst: pairs))
  }

  static func constant(_ value: JSONValue) -> JSONValue { ["const": value] }

  static func oneOf(_ values: JSONValue...) -> JSONValue { ["enum": .array(values)] }

  static func either(_ schemas: JSONValue...) -> JSONValue { ["anyOf": .array(schemas)] }

  static func nullable(_ schema: JSONValue) -> JSONValue { either(schema, ["type": "null"]) }

  static func reference(_ name: String) -> JSONValue { ["$ref": .string("#/components/schemas/\(name)")] }

  /// An object that has these members and may have any others.
  /// - Parameter optional: members that have this form where they are there
  static func open(
    _ required: [(key: String, value: JSONValue)], optional: [(key: String, value: JSONValue)] = []
  ) -> JSONValue {
    [
      "type": "object", "required": .array(required.map { .string($0.key) }),
      "properties": .object(JSONObject(keepingFirst: required + optional)),
    ]
  }

  /// An object that has these members and no others.
  /// - Parameter optional: members that it may also have
  static func object(
    _ required: [(key: String, value: JSONValue)], optional: [(key: String, value: JSONValue)] = []
  ) -> JSONValue {
    [
      "type": "object", "required": .array(required.map { .string($0.key) }),
      "properties": .object(JSONObject(keepingFirst: required + optional)), "additionalProperties": false,
    ]
  }
}
