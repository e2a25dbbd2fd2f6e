import Formats

/// What a template writes around calls: `[TOOL_CALLS]name[ARGS]{…}`, `<function=name>{…}</function>`,
/// `<tool_calls>[{"name": …}, …]</tool_calls>`. There may be more or less white space in an answer.
public struct CallMarks: Hashable, Sendable {
  /// A part of a mark.
  public indirect enum Piece: Hashable, Sendable {
    /// Ordinary text.
    case text(String)
    /// The text of a special token.
    case special(String)
    /// An id or a number: letters, digits, `-` and `_`.
    case id
    /// Pieces that may be left out.
    case optional([Piece])
  }

  /// Whether calls are JSON objects with `name` and `arguments`. Else the name stands as it is, `beforeArguments` follows, then the
  /// arguments.
  public var callsAreObjects = false
  /// Whether the name is in a JSON string whose quotes are in the marks.
  public var namesAreStrings = false
  /// What comes before the first call.
  public var opening: [Piece]
  /// What comes between a name and its arguments.
  public var beforeArguments: [Piece] = []
  /// What comes between two calls; `nil` if the template shows only one.
  public var between: [Piece]?
  /// What comes after the last call.
  public var closing: [Piece]

  /// Most bytes of an id.
  public static let maximumID = 64

  /// The beginning of `opening`, by which calls are found: through its first closing bracket, or to where white space, an id or
  /// JSON begins. Empty if it does not begin with a bracket.
  public var mark: String {
    switch opening.first {
    case .special(let text): return text.hasPrefix("<") || text.hasPrefix("[") ? text : ""
    case .text(let text):
      guard let first = text.first, first == "<" || first == "[" else { return "" }
      let end = text.firstIndex(of: first == "<" ? ">" : "]").map { text.index(after: $0) } ?? text.endIndex
      let found = text[..<end].prefix { !$0.isWhitespace && $0 != "{" && $0 != "\"" }
      return found.count > 1 ? String(found) : ""
    default: return ""
    }
  }

  /// What comes after calls that are objects, without the end of their list.
  var closingBehindList: [Piece] {
    guard case .text(let text) = closing.first else { return closing }
    let rest = text.drop { $0.isWhitespace || $0 == "]" }
    return (rest.isEmpty ? [] : [.text(String(rest))]) + closing.dropFirst()
  }

  /// The special tokens among the marks.
  var specialTexts: Set<String> {
    func texts(_ pieces: [Piece]) -> [String] {
      pieces.flatMap { piece -> [String] in
        switch piece {
        case .special(let text): [text]
        case .optional(let pieces): texts(pieces)
        default: []
        }
      }
    }
    return Set(texts(opening + beforeArguments + (between ?? []) + closing))
  }

  /// A name as it stands in a call.
  public func written(_ name: String) -> [UInt8] {
    let bytes = JSONValue.string(name).encoded
    return namesAreStrings ? Array(bytes[1..<(bytes.count - 1)]) : Array(name.utf8)
  }

  // MARK: finding marks

  /// How a text begins.
  enum Match: Equatable {
    /// With the pieces, up to this index.
    case full(Int)
    /// It may become the pieces.
    case partial
    /// Differently.
    case none
  }

  /// Most bytes of white space in a row.
  static let maximumSpace = 64

  /// Compares the beginning of a text with pieces. White space may be anywhere between the characters of a mark, or be missing.
  static func match(_ pieces: ArraySlice<Piece>, _ text: ArraySlice<UInt8>) -> Match {
    guard let piece = pieces.first else { return .full(text.startIndex) }
    let others = pieces.dropFirst()
    switch piece {
    case .text(let mark), .special(let mark):
      var rest = text
      for byte in mark.utf8 where !byte.isSpace {
        let spaces = rest.prefix(while: \.isSpace).count
        if spaces > maximumSpace { return .none }
        rest = rest.dropFirst(spaces)
        guard let first = rest.first else { return .partial }
        if first != byte { return .none }
        rest = rest.dropFirst()
      }
      return match(others, rest)
    case .id:
      let id = text.prefix(while: isID)
      if id.count > maximumID { return .none }
      if id.endIndex == text.endIndex { return .partial }
      return id.isEmpty ? .none : match(others, text[id.endIndex...])
    case .optional(let pieces):
      let found = match((pieces + others)[...], text)
      return found == .none ? match(others, text) : found
    }
  }

  /// Whether a byte can be in an id.
  public static func isID(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
      true
    default: false
    }
  }
}
