import Formats
import Model

/// A list in the order of names, which may be long: complete, or in pages by `limit` and `after`. A worker pool reads
/// and writes it in parts.
struct NameList: Sendable {
  /// Maximum entries of a page. Without `limit` the whole list is sent, however long.
  static let maximumLimit = 10_000
  /// Entries that are read at once.
  private static let entriesPerPart = 500

  /// An entry of the list.
  typealias Entry = (name: String, json: JSONValue)
  /// Reads a page of the list: the entries after a name.
  typealias Reader = @Sendable (_ after: String?, _ limit: Int) -> Page<Entry>

  let limit: Int?
  /// The list begins with the first name after this one; `nil`: with the first name of all.
  let after: String?

  /// - Throws: the answer to a `limit` that is no number from 1 to `maximumLimit`
  init(_ query: PageQuery) throws(APIError) {
    limit = query["limit"] == nil ? nil : try query.limit(default: 0, maximum: Self.maximumLimit)
    after = query["after"]
  }

  /// Reads the list and answers with it.
  /// - Parameters:
  ///   - after: is given to `read` for the first page
  ///   - first: entries that come before those that are read; they count towards `limit`
  ///   - more: members of the answer beside `object`, `data`, `has_more`, `first_id` and `last_id`
  func answer(
    _ exchange: HTTPExchange, on pool: WorkerPool, after: String?, first: [Entry] = [],
    more: [(key: String, value: JSONValue)] = [], _ read: @escaping Reader
  ) {
    pool.async { [limit] in
      var writer = Writer(read: read, more: more, left: limit ?? .max, after: after, pending: first)
      let beginning = writer.nextPart()
      let source = Rest(beginning: beginning, writer: writer)
      exchange.loop.execute {
        let headers: HTTPHeaders = ["Content-Type": "application/json"]
        if source.writer.isOver { return exchange.respond(status: 200, headers: headers, body: beginning) }
        StreamedBody(source, to: exchange, on: pool).start(headers: headers)
      }
    }
  }

  /// The rest of an answer whose first part was encoded already.
  private struct Rest: BodySource {
    var beginning: [UInt8]?
    var writer: Writer

    mutating func next() -> [UInt8]? {
      if let beginning {
        self.beginning = nil
        return beginning
      }
      return writer.isOver ? nil : writer.nextPart()
    }
  }

  /// Writes the answer part by part.
  private struct Writer: Sendable {
    let read: Reader
    let more: [(key: String, value: JSONValue)]
    /// How many entries may still be added.
    var left: Int
    var after: String?
    /// Entries that are added without reading them.
    var pending: [Entry]
    private var firstName: String?
    private var lastName: String?
    private(set) var isOver = false

    init(
      read: @escaping Reader, more: [(key: String, value: JSONValue)], left: Int, after: String?, pending: [Entry]
    ) {
      (self.read, self.more, self.left, self.after, self.pending) = (read, more, left, after, pending)
    }

    mutating func nextPart() -> [UInt8] {
      var entries = pending
      pending = []
      var hasMore = false
      if entries.count < left {
        let page = read(after, min(left - entries.count, NameList.entriesPerPart))
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
      return text
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
