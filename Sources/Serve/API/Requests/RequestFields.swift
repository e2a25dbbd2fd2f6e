import Formats
import Model

/// The fields of a request's JSON object. A wrong type or value throws a 400 that names the field.
struct RequestFields: Sendable {
  private let object: JSONObject
  /// The path of the field that these are the members of; `nil` for a body's fields.
  private let parent: String?

  init(_ body: [UInt8], _ limits: JSONLimits) throws(APIError) {
    let value: JSONValue
    do { value = try JSONValue.parse(body, subject: "request body", limits: limits) } catch {
      throw .invalid("The request body is not valid JSON: \((error as? ModelError)?.reason ?? "\(error)")")
    }
    guard case .object(let object) = value else { throw .invalid("The request body must be a JSON object") }
    self.object = object
    parent = nil
  }

  /// - Parameter parent: the path of the field that these are the members of
  init(_ object: JSONObject, of parent: String? = nil) {
    self.object = object
    self.parent = parent
  }

  /// The members of an element of a list.
  /// - Parameter path: the element's
  /// - Throws: `APIError`, 400, if it is no object
  init(_ element: JSONValue, at path: String) throws(APIError) {
    guard let object = element.object else { throw Self.wrong(path, "an object") }
    self.init(object, of: path)
  }

  /// The path of a field, as errors name it.
  func path(_ name: String) -> String { parent.map { "\($0).\(name)" } ?? name }

  /// A field's value; `nil` where it is missing or null.
  subscript(name: String) -> JSONValue? {
    guard let value = object[name], !value.isNull else { return nil }
    return value
  }

  /// Whether there is the field, even as null.
  func contains(_ name: String) -> Bool { object[name] != nil }

  var names: [String] { object.keys }

  func string(_ name: String) throws(APIError) -> String? {
    guard let value = self[name] else { return nil }
    guard let string = value.string else { throw wrong(name, "a string") }
    return string
  }

  /// A string that is given. It may be empty.
  func requiredString(_ name: String) throws(APIError) -> String {
    guard let string = try string(name) else { throw missing(name) }
    return string
  }

  /// A string that is given and names something.
  func requiredName(_ name: String) throws(APIError) -> String {
    let string = try requiredString(name)
    guard !string.isEmpty else {
      throw .invalid("'\(path(name))' is empty", param: path(name), code: "invalid_value")
    }
    return string
  }

  /// Checks that a field, if it is given, is one of some strings.
  func check(_ name: String, isOneOf known: [String]) throws(APIError) {
    guard let string = try string(name), !known.contains(string) else { return }
    let list = known.map { "'\($0)'" }
    throw .invalid(
      "'\(path(name))' must be one of \(list.dropLast().joined(separator: ", ")) and \(list.last ?? "")",
      param: path(name), code: "invalid_value")
  }

  /// Checks that fields, if they are given, are lists.
  func checkLists(_ names: String...) throws(APIError) {
    for name in names where self[name] != nil && self[name]?.array == nil { throw wrong(name, "a list") }
  }

  /// Refuses a field that is probably misspelt. Others that are not known are without effect.
  func checkNames(_ known: [String]) throws(APIError) {
    for name in names where !known.contains(name) {
      guard let meant = NearNames.nearest(name, among: known) else { continue }
      throw misspelt(name, meant)
    }
  }

  func bool(_ name: String) throws(APIError) -> Bool? {
    guard let value = self[name] else { return nil }
    guard let bool = value.bool else { throw wrong(name, "true or false") }
    return bool
  }

  func integer(_ name: String, in range: ClosedRange<Int>) throws(APIError) -> Int? {
    guard let value = self[name] else { return nil }
    // A number such as 1.0 is accepted, because some languages write all numbers so.
    var number = value.integer
    if case .number(let double) = value { number = Int(exactly: double) }
    if case .decimal(let text) = value, !text.contains(where: { ".eE".contains($0) }) {
      throw outside(name, range.lowerBound, range.upperBound)
    }
    guard let integer = number else { throw wrong(name, "an integer") }
    guard range.contains(integer) else { throw outside(name, range.lowerBound, range.upperBound) }
    return integer
  }

  func number(_ name: String, in range: ClosedRange<Double>) throws(APIError) -> Double? {
    guard let value = self[name] else { return nil }
    guard let number = value.double, number.isFinite else { throw wrong(name, "a number") }
    guard range.contains(number) else { throw outside(name, range.lowerBound, range.upperBound) }
    return number
  }

  func object(_ name: String) throws(APIError) -> RequestFields? {
    guard let value = self[name] else { return nil }
    guard case .object(let object) = value else { throw wrong(name, "an object") }
    return RequestFields(object, of: path(name))
  }

  /// A field that is given as an object.
  func required(_ name: String) throws(APIError) -> RequestFields {
    guard let members = try self.object(name) else { throw missing(name) }
    return members
  }

  /// The error for a field that is not given.
  func missing(_ name: String) -> APIError {
    .invalid("'\(path(name))' is missing", param: path(name), code: "missing_required_parameter")
  }

  /// Refuses a field that is not supported, unless its value is neutral.
  func refuse(_ name: String, unless isNeutral: (JSONValue) -> Bool) throws(APIError) {
    guard let value = self[name], !isNeutral(value) else { return }
    throw .invalid(
      "'\(path(name))' is not supported by this server", param: path(name), code: "unsupported_parameter")
  }

  /// The error for a value of the wrong type.
  func wrong(_ name: String, _ expected: String) -> APIError { Self.wrong(path(name), expected) }

  private static func wrong(_ path: String, _ expected: String) -> APIError {
    .invalid("'\(path)' must be \(expected)", param: path, code: "invalid_type")
  }

  /// The error for a name that is not known and probably misspelt.
  func misspelt(_ name: String, _ meant: String) -> APIError {
    let path = path(name.excerpt(80))
    return .invalid("Unknown field '\(path)': did you mean '\(meant)'?", param: path, code: "unknown_parameter")
  }

  /// The error for a member that an object of this type does not have.
  func mismatch(_ name: String, type: String) -> APIError {
    .invalid(
      "'\(path(name))' does not go with the type '\(type.excerpt(40))'", param: path(name), code: "invalid_value")
  }

  private func outside(_ name: String, _ low: some Comparable, _ high: some Comparable) -> APIError {
    .invalid("'\(path(name))' must be between \(low) and \(high)", param: path(name), code: "invalid_value")
  }
}
