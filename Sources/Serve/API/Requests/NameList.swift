import Formats
import Foundation
import Model

/// A list in the order of names that may be long: whole, or in pages by `limit` and `after`. It is read and written on a
/// queue, a part at a time.
struct NameList: Sendable {
  /// Most entries of a page. Without `limit` the whole list is sent, however long.
  static let longestPage = 10_000
  /// Entries that are made at once.
  private static let part = 500

  /// What a reader of the list gives: the entries behind a name, each with its name.
  typealias Reader = @Sendable (_ after: String?, _ limit: Int) -> Page<(name: String, json: JSONValue)>

  /// Before the first entry there is none.
  let limit: Int?
  let after: String?

  /// - Throws: the answer to a `limit` that is no number from 1 to `longestPage`
  init(_ query: PageQuery) throws(APIError) {
    limit = query["limit"] == nil ? nil : try query.limit(default: 0, most: Self.longestPage)
    after = query["after"]
  }

  /// Reads the list and answers with it.
  /// - Parameters:
  ///   - after: where the page begins; by default what the query says
  ///   - first: entries before the first that is read, which count for the limit
  ///   - more: members of the answer beside `object`, `data`, `has_more`, `first_id` and `last_id`
  func answer(
    _ exchange: HTTPExchange, on queue: DispatchQueue, after: String?, first: [(name: String, json: JSONValue)] = [],
    more: [(key: String, value: JSONValue)] = [], _ read: @escaping Reader
  ) {
    let writer = Writer(limit: limit, after: after, first: first, more: more, read: read)
    queue.async {
      let (text, isComplete) = writer.next()
      exchange.loop.execute {
        let headers: HTTPHeaders = ["Content-Type": "application/json"]
        if isComplete { return exchange.respond(status: 200, headers: headers, body: text) }
        var beginning: [UInt8]? = text
        PiecewiseBody(exchange, queue) {
          if let text = beginning {
            beginning = nil
            return text
          }
          return writer.isOver ? nil : writer.next().text
        }.start(headers: headers)
      }
    }
  }

  /// Writes the answer part by part. Used by one thread after the other.
  private final class Writer: @unchecked Sendable {
    private let read: Reader
    private let more: [(key: String, value: JSONValue)]
    private var left: Int
    private var after: String?
    private var pending: [(name: String, json: JSONValue)]
    private var firstName: String?
    private var lastName: String?
    private(set) var isOver = false

    init(
      limit: Int?, after: String?, first: [(name: String, json: JSONValue)], more: [(key: String, value: JSONValue)],
      read: @escaping Reader
    ) {
      self.read = read
      self.more = more
      self.after = after
      left = limit ?? .max
      pending = first
    }

    /// - Returns: the next part of the answer's text, and whether it is the last
    func next() -> (text: [UInt8], isComplete: Bool) {
      var entries = pending
      pending = []
      var hasMore = false
      if entries.count < left {
        let page = read(after, min(left - entries.count, NameList.part))
        entries += page.elements
        after = page.elements.last?.name ?? after
        hasMore = page.hasMore
      } else {
        hasMore = !read(after, 1).elements.isEmpty
      }
      left -= entries.count
      var text: [UInt8] = firstName == nil ? Array(#"{"object":"list","data":["#.utf8) : []
      for entry in entries {
        if firstName == nil { firstName = entry.name } else { text.append(UInt8(ascii: ",")) }
        text += entry.json.encoded
        lastName = entry.name
      }
      isOver = left == 0 || !hasMore
      if isOver { text += ending(hasMore: hasMore) }
      return (text, isOver)
    }

    private func ending(hasMore: Bool) -> [UInt8] {
      let members =
        [
          ("has_more", .bool(hasMore)), ("first_id", firstName.map { .string($0) } ?? .null),
          ("last_id", lastName.map { .string($0) } ?? .null),
        ] + more
      return [UInt8(ascii: "]"), UInt8(ascii: ",")]
        + JSONValue.object(JSONObject(keepingFirst: members)).encoded.dropFirst()
    }
  }
}
