/// A model's chat template, parsed once and rendered often: Jinja as transformers sets it up.
///
/// Blocks are trimmed (`trim_blocks`, `lstrip_blocks`), and the sandbox is immutable: no method changes a list or an object.
/// There are `break`, `continue`, `{% generation %}`, `tojson` in the layout of `json.dumps`, `raise_exception` and
/// `strftime_now`. Templates that extend or include others are refused, and so are integers beyond 64 bits. Filters and
/// functions that jinja2 has for web pages are not supported (`Filter`, `Function`).
///
/// **Where text came from.** All strings, numbers and truth values in `messages[i]`, except its role, are marked with i; so
/// are those in its tool calls. What is in `tools` has a mark of its own. Marks are kept through joining, slicing, stripping,
/// splitting, changing case, escaping, formatting and `tojson`. What replaces a marked part gets its mark. If a list or an
/// object of a message is printed whole, its brackets are marked too. The template's own literals have no mark. So the spans
/// of a message are what the template shows of it, without the role header and the end-of-turn token.
public struct ChatTemplate: Sendable {
  private let program: Program

  /// Parses a template.
  /// - Parameter source: Jinja, at most 4 MiB
  /// - Throws: `.syntax` with the line of the source, also for unknown tags, filters and tests; `.limit` if it is too large or
  ///   nests too deeply
  public init(source: String) throws(TemplateError) {
    program = try Parser.parse(source)
  }

  /// All names that the template uses as variables, such as `tools` or `documents`, including those that it sets itself.
  public var names: Set<String> { Set(program.names) }

  /// Renders the template.
  /// - Parameters:
  ///   - variables: by name; other names are undefined
  ///   - now: the time that `strftime_now` prints
  ///   - limits: what the rendering may use
  /// - Throws: `.refused` with the template's own message if it calls `raise_exception`; `.runtime` if an operation fails;
  ///   `.limit` if a limit is reached
  public func render(
    _ variables: [String: TemplateValue], now: TemplateTime, limits: TemplateLimits = .default
  ) throws(TemplateError) -> Rendering {
    let interpreter = Interpreter(program: program, now: now, limits: limits)
    return Rendering(try interpreter.run(variables))
  }
}

/// A rendered chat.
public struct Rendering: Equatable, Sendable {
  /// The parts of the text that came from one message.
  public struct MessageSpans: Equatable, Sendable {
    /// The message's index in `messages`.
    public let message: Int
    /// UTF-8 byte ranges of the text: ascending, not empty, and not adjacent.
    public let ranges: [Range<Int>]

    /// - Parameters: as the properties
    public init(message: Int, ranges: [Range<Int>]) {
      self.message = message
      self.ranges = ranges
    }
  }

  /// The whole rendering.
  public let text: String
  /// The spans of each message that is shown, by ascending index; see `ChatTemplate`.
  public private(set) var messageSpans: [MessageSpans]
  /// What came from `tools`, in byte ranges as above.
  public let toolSpans: [Range<Int>]
  /// What came from any message or from `tools`, and not from the template itself, in byte ranges as above.
  public let dataSpans: [Range<Int>]
  /// The UTF-8 byte range of each `{% generation %}` block's text, in the order of the text. Empty if the template has
  /// no such blocks.
  public let generationSpans: [Range<Int>]

  /// The same rendering for those who count the messages differently.
  /// - Parameter indices: the index that each message has for them; `nil` for one that they do not have. Several messages can
  ///   be one for them.
  public func renumbered(_ indices: [Int?]) -> Rendering {
    var ranges: [Int: [Range<Int>]] = [:]
    for spans in messageSpans where spans.message < indices.count {
      if let index = indices[spans.message] { ranges[index, default: []] += spans.ranges }
    }
    var rendering = self
    rendering.messageSpans = ranges.sorted { $0.key < $1.key }
      .map { MessageSpans(message: $0.key, ranges: Self.merged($0.value)) }
    return rendering
  }

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
