package import Foundation

/// Typed access to the fields of a JSON configuration. A field that is null counts as absent.
package struct HuggingFaceFields {
  /// The fields in the file's order.
  package let object: JSONObject
  /// What errors name.
  package let file: String

  /// - Parameter file: what errors name
  package init(object: JSONObject, file: String) {
    self.object = object
    self.file = file
  }

  /// Reads a file of at most `limit` bytes.
  /// - Throws: `ModelError` naming the file, if it cannot be read or is no JSON object
  package init(_ url: URL, limit: Int) throws {
    try self.init(MappedFile.contents(of: url, limit: limit), file: url.lastPathComponent)
  }

  /// - Parameter file: what errors name
  /// - Throws: `ModelError` if the text is no JSON object
  package init(_ text: some Collection<UInt8>, file: String) throws {
    guard let object = try JSONValue.parse(text, subject: file, limits: .file(values: 400_000)).object else {
      throw ModelError(file, reason: "not a JSON object")
    }
    self.init(object: object, file: file)
  }

  /// An error about a field.
  package func failure(_ key: String, _ reason: String) -> ModelError { ModelError(file, key, reason: reason) }

  /// The value of a field; `nil` if it is absent or null.
  /// - Parameters:
  ///   - kind: what the value must be, with its article, for the error
  ///   - read: `nil` for a value of another kind
  /// - Throws: `ModelError` naming a field of another kind
  package func value<T>(_ key: String, _ kind: String, _ read: (JSONValue) -> T?) throws -> T? {
    guard let value = object[key], !value.isNull else { return nil }
    guard let result = read(value) else { throw failure(key, "is not \(kind)") }
    return result
  }

  /// A string; `nil` if the field is absent or null.
  /// - Throws: `ModelError` for another value
  package func string(_ key: String) throws -> String? { try value(key, "a string") { $0.string } }
  /// A boolean; `nil` if the field is absent or null.
  /// - Throws: `ModelError` for another value
  package func bool(_ key: String) throws -> Bool? { try value(key, "a boolean") { $0.bool } }
  /// A number without a fraction; `nil` if the field is absent or null.
  /// - Throws: `ModelError` for another value
  package func integer(_ key: String) throws -> Int? { try value(key, "an integer") { $0.integer } }
  /// A number; `nil` if the field is absent or null.
  /// - Throws: `ModelError` for another value
  package func number(_ key: String) throws -> Double? { try value(key, "a number") { $0.double } }

  /// The value of a field that must be there.
  /// - Throws: `ModelError` if it is absent or null, and what `read` throws
  package func required<T>(_ key: String, _ read: (String) throws -> T?) throws -> T {
    guard let value = try read(key) else { throw failure(key, "missing") }
    return value
  }

  /// Token ids, from one id or a list of them.
  /// - Parameter default: if the field is absent; a field that is null means none
  /// - Throws: `ModelError` for another value
  package func tokens(_ key: String, default: [Int32]) throws -> [Int32] {
    guard let value = object[key] else { return `default` }
    if value.isNull { return [] }
    let values = value.array ?? [value]
    let tokens = values.compactMap { $0.integer.flatMap { Int32(exactly: $0) } }
    guard tokens.count == values.count, tokens.count <= 1024 else {
      throw failure(key, "is neither a token id nor a list of them")
    }
    return tokens
  }

  /// - Throws: `ModelError` naming the first field that is not known and whose value says something
  package func refuse(allBut known: Set<String>) throws {
    for (key, value) in object.pairs where !known.contains(key) && !value.saysNothing {
      throw failure(key, "is not supported")
    }
  }
}

extension JSONValue {
  /// Whether the value is one that writers put into a field which they do not use: null, false, or an empty string, list
  /// or object.
  package var saysNothing: Bool {
    switch self {
    case .null, .bool(false): true
    case .string(let text): text.isEmpty
    case .array(let values): values.isEmpty
    case .object(let object): object.isEmpty
    default: false
    }
  }
}
