/// A model's chat template, parsed once and rendered often: Jinja as transformers sets it up.
///
/// Blocks are trimmed (`trim_blocks`, `lstrip_blocks`), the sandbox is immutable (no method changes a list or an object),
/// and there are `break`, `continue`, `{% generation %}`, `tojson` in `json.dumps`' layout, `raise_exception` and
/// `strftime_now`. Templates that extend or include others are refused, as are integers beyond 64 bits.
///
/// **Where text came from.** Every string in `messages[i]` of an assistant, but its role, carries the mark i, and so do its
/// numbers and truth values; tool calls are part of it. Marks follow the text through joining, slicing, stripping,
/// splitting, changing case, escaping, formatting and `tojson`. What replaces a marked stretch is marked like it; a list or
/// an object of the message that is printed whole is marked whole, its brackets too. The template's own literals never
/// are. So a message's spans are what the template showed of it, not the role header nor the end-of-turn token.
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
  /// What came from one assistant message.
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
  /// For each assistant message that shows, what came from it (see `ChatTemplate`), by ascending index.
  public let assistantSpans: [MessageSpans]
  /// What `{% generation %}` blocks rendered: UTF-8 byte ranges as above. Empty for a template without them.
  public let generationSpans: [Range<Int>]

  init(_ rendered: Text) {
    text = rendered.string
    var bySource: [Source: [Range<Int>]] = [:]
    var generation: [Range<Int>] = []
    for mark in rendered.marks {
      if mark.source >= 0 {
        bySource[mark.source, default: []].append(mark.start..<mark.end)
      } else {
        generation.append(mark.start..<mark.end)
      }
    }
    assistantSpans = bySource.sorted { $0.key < $1.key }
      .map { MessageSpans(message: Int($0.key), ranges: Self.merged($0.value)) }
    generationSpans = Self.merged(generation)
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
