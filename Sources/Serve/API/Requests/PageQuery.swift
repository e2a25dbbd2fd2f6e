import Formats
import Model

/// The query of a list: `after`, `limit` and filters.
struct PageQuery: Sendable {
  private let items: [(name: String, value: String)]

  init(_ exchange: HTTPExchange) { items = exchange.request.queryItems }

  /// The last value of a key.
  subscript(name: String) -> String? { items.last { $0.name == name }?.value }

  /// `limit`, from 1 to `maximum`.
  func limit(default usual: Int, maximum: Int) throws(APIError) -> Int {
    guard let text = self["limit"] else { return usual }
    guard let limit = Int(text), (1...maximum).contains(limit) else {
      throw .invalid("'limit' must be between 1 and \(maximum)", param: "limit", code: "invalid_value")
    }
    return limit
  }

  /// A value that is "true" or "false".
  func bool(_ name: String) throws(APIError) -> Bool? {
    guard let text = self[name] else { return nil }
    guard text == "true" || text == "false" else {
      throw .invalid("'\(name)' must be true or false", param: name, code: "invalid_value")
    }
    return text == "true"
  }

  /// `metadata[key]=value`.
  var metadata: [(key: String, value: String)] {
    items.compactMap { name, value in
      guard name.hasPrefix("metadata["), name.hasSuffix("]") else { return nil }
      return (key: String(name.dropFirst(9).dropLast()), value: value)
    }
  }

  /// Reads a page. A cursor that is not in the list is a 400.
  func page<Element>(_ read: () throws -> Page<Element>) throws(APIError) -> Page<Element> {
    do { return try read() } catch is UnknownCursor { throw .unknownCursor } catch {
      throw APIError(status: 500, type: "server_error", message: "\(error)", param: nil, code: "storage_failed")
    }
  }

  /// A page as OpenAI writes it.
  static func json(_ data: [JSONValue], hasMore: Bool) -> JSONValue {
    [
      "object": "list", "data": .array(data), "has_more": .bool(hasMore),
      "first_id": data.first?.object?["id"] ?? .null, "last_id": data.last?.object?["id"] ?? .null,
    ]
  }
}

extension APIError {
  /// The answer to a cursor that is not in the list.
  static var unknownCursor: APIError {
    .invalid("'after' names nothing in this list", param: "after", code: "invalid_value")
  }
}
