/// A model's chat template, parsed once and rendered often: Jinja as transformers sets it up.
///
/// Blocks are trimmed (`trim_blocks`, `lstrip_blocks`), the sandbox is immutable (no method changes a list or an object),
/// and there are `break`, `continue`, `{% generation %}`, `tojson` in `json.dumps`' layout, `raise_exception` and
/// `strftime_now`. Templates that extend or include others are refused, as are integers beyond 64 bits.
///
/// **Where text came from.** Every string in `messages[i]`, but its role, carries the mark i, and so do its numbers and truth
/// values; tool calls are part of it. What is in `tools` carries a mark of its own. Marks follow the text through joining,
/// slicing, stripping, splitting, changing case, escaping, formatting and `tojson`. What replaces a part that is marked is
/// marked like it; a list or an object of the message that is printed whole is marked whole, its brackets too. The
/// template's own literals never are. So a message's spans are what the template showed of it, not the role header nor
/// the end-of-turn token.
public struct ChatTemplate: Sendable {
  private let program: Program

  /// - Parameter source: Jinja; at most 4 MiB.
  /// - Throws: `.syntax` with the line of the source, for unknown tags, filters and tests too; `.limit` where it nests too
  ///   deeply.
  public init(source: String) throws(TemplateError) {
    program = try Parser.parse(source)
  }

  /// The names that the template mentions as variables, its own among them: what it can ask for (`tools`, `documents`).
  public var names: Set<String> { Set(program.names) }

  /// - Parameters:
  ///   - variables: By name. What is missing is undefined.
  ///   - now: What `strftime_now` prints.
  /// - Throws: `.refused` with the template's own words where it calls `raise_exception`; `.runtime` where an operation
  ///   fails; `.limit`.
  public func render(
    _ variables: [String: TemplateValue], now: TemplateTime, limits: TemplateLimits = .default
  ) throws(TemplateError) -> Rendering {
    let interpreter = Interpreter(program: program, now: now, limits: limits)
    return Rendering(try interpreter.run(variables))
  }
}

/// A rendered chat.
public struct Rendering: Equatable, Sendable {
  /// What came from one message.
  public struct MessageSpans: Equatable, Sendable {
    /// The message's index in `messages`.
    public let message: Int
    /// UTF-8 byte ranges of the text: ascending, not empty, apart from each other.
    public let ranges: [Range<Int>]

    public init(message: Int, ranges: [Range<Int>]) {
      self.message = message
      self.ranges = ranges
    }
  }

  public let text: String
  /// For each message that shows, what came from it (see `ChatTemplate`), by ascending index.
  public let messageSpans: [MessageSpans]
  /// What came from `tools`: byte ranges as above.
  public let toolSpans: [Range<Int>]
  /// What came from any message or from `tools`, as opposed to the template's own text: byte ranges as above.
  public let dataSpans: [Range<Int>]
  /// What each `{% generation %}` block rendered, in the order of the text: UTF-8 byte ranges. Empty for a template
  /// without them.
  public let generationSpans: [Range<Int>]

  init(_ rendered: Text) {
    text = rendered.string
    var byMessage: [Source: [Range<Int>]] = [:]
    var tools: [Range<Int>] = []
    var data: [Range<Int>] = []
    var byBlock: [Source: [Range<Int>]] = [:]
    for mark in rendered.blocks.all { byBlock[mark.source, default: []].append(mark.start..<mark.end) }
    for mark in rendered.marks.all {
      let range = mark.start..<mark.end
      data.append(range)
      if mark.source == toolSource { tools.append(range) } else { byMessage[mark.source, default: []].append(range) }
    }
    messageSpans = byMessage.sorted { $0.key < $1.key }
      .map { MessageSpans(message: Int($0.key), ranges: Self.merged($0.value)) }
    toolSpans = Self.merged(tools)
    dataSpans = Self.merged(data)
    generationSpans = byBlock.values.flatMap(Self.merged).sorted { $0.lowerBound < $1.lowerBound }
  }

  private static func merged(_ ranges: [Range<Int>]) -> [Range<Int>] {
    var result: [Range<Int>] = []
    for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      if let last = result.last, range.lowerBound <= last.upperBound {
        result[result.count - 1] = last.lowerBound..<max(last.upperBound, range.upperBound)
      } else {
        result.append(range)
      }
    }
    return result
  }
}
