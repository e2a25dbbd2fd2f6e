import Formats

/// How much white space a grammar of JSON allows.
public enum JSONWhiteSpace: Hashable, Sendable {
  /// None.
  case none
  /// Up to a line end with indentation after brackets, braces and commas, and a space after colons. Bounded, so that a model
  /// cannot go on writing white space for ever.
  case flexible
}

/// The expressions of the parts of JSON texts that are the same under every schema.
struct JSONNotation {
  private static let deepestIndentation = 32

  let openObject: ByteExpression
  let closeObject: ByteExpression
  let emptyObject: ByteExpression
  let openArray: ByteExpression
  let closeArray: ByteExpression
  let emptyArray: ByteExpression
  let comma: ByteExpression
  let colon: ByteExpression
  /// Between brackets and what is next to them; `nil` for none.
  private let space: ByteExpression?

  init(_ whiteSpace: JSONWhiteSpace) {
    let space: ByteExpression? =
      switch whiteSpace {
      case .none: nil
      case .flexible:
        .alternatives([
          .empty, .literal(" "),
          .sequence([
            ByteExpression.literal("\r").optional, .literal("\n"),
            .repetition(.byte(ByteSet(" \t".utf8)), minimum: 0, maximum: Self.deepestIndentation),
          ]),
        ])
      }
    func joined(_ parts: ByteExpression?...) -> ByteExpression {
      let kept = parts.compactMap(\.self)
      return kept.count == 1 ? kept[0] : .sequence(kept)
    }
    self.space = space
    openObject = joined(.literal("{"), space)
    closeObject = joined(space, .literal("}"))
    emptyObject = joined(.literal("{"), space, .literal("}"))
    openArray = joined(.literal("["), space)
    closeArray = joined(space, .literal("]"))
    emptyArray = joined(.literal("["), space, .literal("]"))
    comma = joined(.literal(","), space)
    colon = joined(.literal(":"), space == nil ? nil : ByteExpression.literal(" ").optional)
  }

  /// A string in its shortest spelling, as a key or value that is known.
  func literal(_ text: String) -> ByteExpression { .literal(bytes: JSONValue.string(text).encoded) }

  /// A key that is known, with its colon.
  func key(_ text: String) -> ByteExpression { .sequence([literal(text), colon]) }

  /// The text of a value that is known and no array or object. Numbers are written without exponent but for whole ones above
  /// 2^53 that the schema does not write as integers: its readers may take them for doubles, and compare these with integers.
  func scalar(_ value: JSONValue) -> String {
    let encoded = String(decoding: value.encoded, as: UTF8.self)
    guard let number = DecimalNumber(value) else { return encoded }
    return number.isWhole && value.isWrittenAsDouble && abs(value.double ?? 0) > 0x1p53 ? encoded : number.text
  }

  /// A value that is known.
  func literal(_ value: JSONValue) -> ByteExpression {
    switch value {
    case .array(let items) where !items.isEmpty:
      var parts = [openArray]
      for (index, item) in items.enumerated() { parts += (index == 0 ? [] : [comma]) + [literal(item)] }
      return .sequence(parts + [closeArray])
    case .array: return emptyArray
    case .object(let object) where !object.isEmpty:
      var parts = [openObject]
      for (index, pair) in object.pairs.enumerated() {
        parts += (index == 0 ? [] : [comma]) + [key(pair.key), literal(pair.value)]
      }
      return .sequence(parts + [closeObject])
    case .object: return emptyObject
    default: return .literal(scalar(value))
    }
  }
}

extension JSONValue {
  /// Whether the value is a number with a fraction or an exponent, which most readers take for a double.
  var isWrittenAsDouble: Bool {
    switch self {
    case .number: true
    case .decimal(let text): text.utf8.contains { ".eE".utf8.contains($0) }
    default: false
    }
  }
}
