package import Foundation

/// Typed access to the fields of a configuration; null is the same as absent.
package struct HuggingFaceFields {
  package let object: JSONObject
  package let file: String

  package init(object: JSONObject, file: String) {
    self.object = object
    self.file = file
  }

  package init(_ url: URL, limit: Int) throws {
    try self.init(MappedFile.contents(of: url, limit: limit), file: url.lastPathComponent)
  }

  package init(_ text: some Collection<UInt8>, file: String) throws {
    guard let object = try JSONValue.parse(text, subject: file, limits: JSONLimits(values: 400_000)).object else {
      throw ModelError(file, reason: "not a JSON object")
    }
    self.init(object: object, file: file)
  }

  package func failure(_ key: String, _ reason: String) -> ModelError { ModelError(file, key, reason: reason) }

  package func value<T>(_ key: String, _ kind: String, _ read: (JSONValue) -> T?) throws -> T? {
    guard let value = object[key], !value.isNull else { return nil }
    guard let result = read(value) else { throw failure(key, "is not \(kind)") }
    return result
  }

  package func string(_ key: String) throws -> String? { try value(key, "a string") { $0.string } }
  package func bool(_ key: String) throws -> Bool? { try value(key, "a boolean") { $0.bool } }
  package func integer(_ key: String) throws -> Int? { try value(key, "an integer") { $0.integer } }
  package func number(_ key: String) throws -> Double? { try value(key, "a number") { $0.double } }

  package func required<T>(_ key: String, _ read: (String) throws -> T?) throws -> T {
    guard let value = try read(key) else { throw failure(key, "missing") }
    return value
  }

  /// A token id or a list of them; `default` if the key is absent, none if it is null.
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

  /// Throws `ModelError` naming the first field that is none of these and says something.
  package func refuse(allBut known: Set<String>) throws {
    for (key, value) in object.pairs where !known.contains(key) && !value.saysNothing {
      throw failure(key, "is not supported")
    }
  }
}

extension JSONValue {
  /// What writers leave in a field that they do not use: null, false, or an empty string, list or object.
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
