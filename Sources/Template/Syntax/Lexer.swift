/// Splits a template's source into tokens. White space is treated as transformers sets jinja2 up: the newline after a block
/// is dropped (`trim_blocks`), and so is the indentation before a block that begins its line (`lstrip_blocks`).
struct Lexer {
  private let source: [UInt8]
  private var position = 0
  private var line = 1
  private var lineStarting = true
  private var tokens: [Token] = []

  static func tokens(of source: String) throws(TemplateError) -> [Token] {
    var lexer = Lexer(source: source)
    try lexer.scanTemplate()
    return lexer.tokens
  }

  private init(source: String) {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(source.utf8.count)
    var afterReturn = false
    for byte in source.utf8 {
      switch byte {
      case 13: bytes.append(10)
      case 10 where afterReturn: break
      default: bytes.append(byte)
      }
      afterReturn = byte == 13
    }
    if bytes.last == 10 { bytes.removeLast() }
    self.source = bytes
  }

  // MARK: Template text

  private enum Opening { case block, variable, comment, raw }

  private mutating func scanTemplate() throws(TemplateError) {
    while let (start, opening, end, sign) = nextOpening() {
      let text = stripped(position..<start, sign: sign, isVariable: opening == .variable)
      emitData(text)
      advance(to: end)
      switch opening {
      case .comment: try skipComment()
      case .raw: try scanRaw()
      case .block:
        tokens.append(Token(kind: .blockBegin, line: line))
        try scanTag(isBlock: true)
      case .variable:
        tokens.append(Token(kind: .variableBegin, line: line))
        try scanTag(isBlock: false)
      }
    }
    emitData(position..<source.count)
    advance(to: source.count)
    tokens.append(Token(kind: .end, line: line))
  }

  private func byte(_ index: Int) -> UInt8 { index < source.count ? source[index] : 0 }

  private func matches(_ text: StaticString, at index: Int) -> Bool {
    guard index >= 0, index + text.utf8CodeUnitCount <= source.count else { return false }
    return text.withUTF8Buffer { expected in
      expected.indices.allSatisfy { source[index + $0] == expected[$0] }
    }
  }

  /// The next tag: where it begins, its kind, where its content begins, and its white space sign (0 without one).
  private func nextOpening() -> (start: Int, Opening, end: Int, sign: UInt8)? {
    var index = position
    while index + 1 < source.count {
      guard source[index] == UInt8(ascii: "{") else {
        index += 1
        continue
      }
      let opening: Opening
      switch source[index + 1] {
      case UInt8(ascii: "%"): opening = .block
      case UInt8(ascii: "{"): opening = .variable
      case UInt8(ascii: "#"): opening = .comment
      default:
        index += 1
        continue
      }
      var end = index + 2
      var sign: UInt8 = 0
      if byte(end) == UInt8(ascii: "-") || byte(end) == UInt8(ascii: "+") {
        sign = byte(end)
        end += 1
      }
      if opening == .block, let rawEnd = rawBegin(at: end) { return (index, .raw, rawEnd, sign) }
      return (index, opening, end, sign)
    }
    return nil
  }

  private func rawBegin(at start: Int) -> Int? {
    var index = skipSpace(start)
    guard matches("raw", at: index) else { return nil }
    index = skipSpace(index + 3)
    if matches("-%}", at: index) { return skipSpace(index + 3) }
    return matches("%}", at: index) ? index + 2 : nil
  }

  private func skipSpace(_ start: Int) -> Int {
    var index = start
    while index < source.count {
      let (scalar, end) = UTF8Bytes.scalar(source, at: index)
      guard scalar.isPythonSpace else { break }
      index = end
    }
    return index
  }

  private func stripped(_ range: Range<Int>, sign: UInt8, isVariable: Bool) -> Range<Int> {
    var end = range.upperBound
    if sign == UInt8(ascii: "-") {
      while end > range.lowerBound {
        let (scalar, start) = UTF8Bytes.scalar(source, before: end)
        guard scalar.isPythonSpace else { break }
        end = start
      }
      return range.lowerBound..<max(end, range.lowerBound)
    }
    guard sign == 0, !isVariable else { return range }
    // White space after the last newline, or after the start of the text if that begins a line, is indentation.
    while end > range.lowerBound {
      if source[end - 1] == 10 { return range.lowerBound..<end }
      let (scalar, start) = UTF8Bytes.scalar(source, before: end)
      guard scalar.isPythonSpace else { return range }
      end = start
    }
    return lineStarting ? range.lowerBound..<range.lowerBound : range
  }

  private mutating func emitData(_ range: Range<Int>) {
    if !range.isEmpty { tokens.append(Token(kind: .data(Array(source[range])), line: line)) }
  }

  private mutating func advance(to end: Int) {
    for index in position..<end where source[index] == 10 { line += 1 }
    if end > position { lineStarting = source[end - 1] == 10 }
    position = end
  }

  private func fail(_ reason: String) -> TemplateError { TemplateError(kind: .syntax, line: line, reason: reason) }

  private mutating func skipComment() throws(TemplateError) {
    var index = position
    while !matches("#}", at: index) {
      guard index < source.count else { throw fail("missing end of comment tag") }
      index += 1
    }
    let sign = index > position ? source[index - 1] : 0
    advance(to: closing(after: index + 2, sign: sign))
  }

  /// Where the text after a tag begins, given the end of the tag and its white space sign.
  private func closing(after end: Int, sign: UInt8) -> Int {
    switch sign {
    case UInt8(ascii: "-"): skipSpace(end)
    case UInt8(ascii: "+"): end
    default: byte(end) == 10 ? end + 1 : end
    }
  }

  private mutating func scanRaw() throws(TemplateError) {
    var start = position
    while true {
      guard start + 1 < source.count else { throw fail("missing end of raw directive") }
      guard matches("{%", at: start), let (end, sign) = rawEnd(at: start + 2) else {
        start += 1
        continue
      }
      emitData(stripped(position..<start, sign: sign, isVariable: false))
      advance(to: end)
      return
    }
  }

  private func rawEnd(at start: Int) -> (end: Int, sign: UInt8)? {
    var index = start
    var sign: UInt8 = 0
    if byte(index) == UInt8(ascii: "-") || byte(index) == UInt8(ascii: "+") {
      sign = byte(index)
      index += 1
    }
    index = skipSpace(index)
    guard matches("endraw", at: index) else { return nil }
    index = skipSpace(index + 6)
    if matches("-%}", at: index) { return (skipSpace(index + 3), sign) }
    if matches("+%}", at: index) { return (index + 3, sign) }
    return matches("%}", at: index) ? (closing(after: index + 2, sign: 0), sign) : nil
  }

  // MARK: Inside a tag

  private mutating func scanTag(isBlock: Bool) throws(TemplateError) {
    var open: [Token.Symbol] = []
    while true {
      advance(to: skipSpace(position))
      if open.isEmpty, let end = tagEnd(isBlock: isBlock) {
        tokens.append(Token(kind: isBlock ? .blockEnd : .variableEnd, line: line))
        advance(to: end)
        return
      }
      guard position < source.count else {
        tokens.append(Token(kind: .end, line: line))
        return
      }
      let (kind, end) = try nextToken()
      if case .symbol(let symbol) = kind { try balance(symbol, &open) }
      tokens.append(Token(kind: kind, line: line))
      advance(to: end)
    }
  }

  private func tagEnd(isBlock: Bool) -> Int? {
    if matches(isBlock ? "-%}" : "-}}", at: position) { return skipSpace(position + 3) }
    if isBlock, matches("+%}", at: position) { return position + 3 }
    guard matches(isBlock ? "%}" : "}}", at: position) else { return nil }
    return isBlock ? closing(after: position + 2, sign: 0) : position + 2
  }

  private func balance(_ symbol: Token.Symbol, _ open: inout [Token.Symbol]) throws(TemplateError) {
    switch symbol {
    case .leftParenthesis: open.append(.rightParenthesis)
    case .leftBracket: open.append(.rightBracket)
    case .leftBrace: open.append(.rightBrace)
    case .rightParenthesis, .rightBracket, .rightBrace:
      guard let expected = open.popLast() else { throw fail("unexpected '\(symbol.rawValue)'") }
      guard expected == symbol else {
        throw fail("unexpected '\(symbol.rawValue)', expected '\(expected.rawValue)'")
      }
    default: break
    }
  }

  private func nextToken() throws(TemplateError) -> (Token.Kind, end: Int) {
    let first = source[position]
    if first == UInt8(ascii: "'") || first == UInt8(ascii: "\"") {
      return try Literals.string(source, at: position, line: line)
    }
    if (48...57).contains(first) { return try Literals.number(source, at: position, line: line) }
    if let end = nameEnd() { return (.name(String(decoding: source[position..<end], as: UTF8.self)), end) }
    for symbol in Token.Symbol.allCases {
      let bytes = symbol.rawValue.utf8
      if position + bytes.count <= source.count, source[position..<position + bytes.count].elementsEqual(bytes) {
        return (.symbol(symbol), position + bytes.count)
      }
    }
    throw fail("unexpected character '\(UTF8Bytes.scalar(source, at: position).scalar)'")
  }

  private func nameEnd() -> Int? {
    var index = position
    while index < source.count {
      let (scalar, end) = UTF8Bytes.scalar(source, at: index)
      let properties = scalar.properties
      guard scalar == "_" || (index == position ? properties.isXIDStart : properties.isXIDContinue) else { break }
      index = end
    }
    return index > position ? index : nil
  }
}
