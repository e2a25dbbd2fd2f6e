import Formats

/// The members of an item of a response's input, or of a part of its content. A member that is missing, unknown or of a wrong
/// type throws a 400 that names it.
struct ItemMembers {
  private let object: JSONObject
  /// Where the object is in the request.
  let path: String

  /// - Throws: `APIError`, 400, if the value is no object
  init(_ value: JSONValue, _ path: String) throws(APIError) {
    guard let object = value.object else { throw Self.wrong(path, "an object") }
    self.init(object, path)
  }

  init(_ object: JSONObject, _ path: String) {
    self.object = object
    self.path = path
  }

  /// A member's value; `nil` where it is missing or null.
  subscript(name: String) -> JSONValue? {
    guard let value = object[name], !value.isNull else { return nil }
    return value
  }

  func path(of name: String) -> String { "\(path).\(name)" }

  /// A string that may be missing.
  func text(_ name: String) throws(APIError) -> String? {
    guard let value = self[name] else { return nil }
    guard let text = value.string else { throw Self.wrong(path(of: name), "a string") }
    return text
  }

  /// A string that may be empty.
  func requiredText(_ name: String) throws(APIError) -> String {
    guard let text = try text(name) else { throw missing(name) }
    return text
  }

  /// A string that names something.
  func name(_ name: String) throws(APIError) -> String {
    let text = try requiredText(name)
    guard !text.isEmpty else {
      throw .invalid("'\(path(of: name))' is empty", param: path(of: name), code: "invalid_value")
    }
    return text
  }

  /// Checks that a member, if it is there, is one of some strings.
  func check(_ name: String, isOneOf known: [String]) throws(APIError) {
    guard let text = try text(name), !known.contains(text) else { return }
    let list = known.map { "'\($0)'" }
    throw .invalid(
      "'\(path(of: name))' must be one of \(list.dropLast().joined(separator: ", ")) and \(list.last ?? "")",
      param: path(of: name), code: "invalid_value")
  }

  /// Checks that members, if they are there, are lists.
  func checkLists(_ names: String...) throws(APIError) {
    for name in names where self[name] != nil && self[name]?.array == nil {
      throw Self.wrong(path(of: name), "a list")
    }
  }

  /// Refuses a member that is probably misspelt. Others that are not known are without effect.
  func checkNames(_ known: [String]) throws(APIError) {
    for key in object.keys where !known.contains(key) {
      guard let meant = NearNames.nearest(key, among: known) else { continue }
      let path = path(of: key.excerpt(80))
      throw .invalid("Unknown field '\(path)': did you mean '\(meant)'?", param: path, code: "unknown_parameter")
    }
  }

  func missing(_ name: String) -> APIError {
    .invalid("'\(path(of: name))' is missing", param: path(of: name), code: "missing_required_parameter")
  }

  static func wrong(_ path: String, _ expected: String) -> APIError {
    .invalid("'\(path)' must be \(expected)", param: path, code: "invalid_type")
  }
}
