/// Translates a pattern from Oniguruma's Ruby syntax, in which tokenizer.json is written, to PCRE2's.
///
/// The two agree on what split patterns use, but for a few escapes. Syntax that is not known to mean the same in both is
/// refused by name.
struct RegexTranslation {
  /// Unicode's White_Space, which is Oniguruma's `\s`. PCRE2's `\s` has U+180E too.
  static let whitespace =
    #"\x09-\x0d\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}"#
  private static let maximumLength = 65_536

  private let scalars: [Unicode.Scalar]
  private var position = 0
  private var output = String.UnicodeScalarView()

  private init(_ pattern: String) { scalars = Array(pattern.unicodeScalars) }

  static func pcre2(_ pattern: String) throws(SplitRegexError) -> String {
    if pattern.utf8.count > maximumLength { throw SplitRegexError(reason: "longer than \(maximumLength) bytes") }
    // From every space of a run, the search would go to the run's end. Only the first space can begin a match, so the
    // look-behind gives the same matches in linear time.
    if pattern.utf8.elementsEqual(#"\s+$"#.utf8) { return "(?<![\(whitespace)])[\(whitespace)]+$" }
    var translation = RegexTranslation(pattern)
    try translation.run()
    return String(translation.output)
  }

  /// A pattern that matches exactly this text.
  static func literal(_ text: String) -> String {
    var pattern = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
      if scalar.isASCII && isPunctuation(scalar) { pattern.append("\\") }
      pattern.append(scalar)
    }
    return String(pattern)
  }

  private static func isPunctuation(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar {
    case "!"..."/", ":"..."@", "["..."`", "{"..."~": true
    default: false
    }
  }

  private var current: Unicode.Scalar? { position < scalars.count ? scalars[position] : nil }

  private func isAt(_ text: StaticString) -> Bool {
    scalars[position...].starts(with: text.description.unicodeScalars)
  }

  private mutating func append(_ text: String) { output.append(contentsOf: text.unicodeScalars) }

  /// Copies `text` if the pattern continues with it.
  /// - Returns: whether it does
  private mutating func copy(ifAt text: StaticString) -> Bool {
    guard isAt(text) else { return false }
    append(text.description)
    position += text.description.unicodeScalars.count
    return true
  }

  private mutating func run() throws(SplitRegexError) {
    var afterInterval = false
    while let scalar = current {
      let followsInterval = afterInterval
      afterInterval = false
      switch scalar {
      case "\\": try escape(inClass: false)
      case "[": try characterClass()
      case "(": try group()
      case "{":
        try interval()
        afterInterval = true
      case "+", "?":
        // After an interval these are a second quantifier in Ruby.
        if followsInterval { throw SplitRegexError(reason: "'\(scalar)' after an interval is not supported") }
        output.append(scalar)
        position += 1
      default:
        output.append(scalar)
        position += 1
      }
    }
  }

  private mutating func group() throws(SplitRegexError) {
    guard isAt("(?") else {
      // A group's capture is not used.
      append("(?:")
      position += 1
      return
    }
    let atStart = position == 0
    if copy(ifAt: "(?:") || copy(ifAt: "(?i:") || copy(ifAt: "(?=") || copy(ifAt: "(?!") || copy(ifAt: "(?<=")
      || copy(ifAt: "(?<!") || copy(ifAt: "(?>")
    {
      return
    }
    if atStart && copy(ifAt: "(?i)") { return }
    let name = String(String.UnicodeScalarView(scalars[position...].prefix(4)))
    throw SplitRegexError(reason: "the group '\(name)' is not supported")
  }

  private mutating func interval() throws(SplitRegexError) {
    let end = scalars[position...].firstIndex(of: "}") ?? scalars.endIndex
    let inside = scalars[position..<end].dropFirst()
    let numbers = inside.split(separator: ",", omittingEmptySubsequences: false)
    let wellFormed =
      end < scalars.endIndex && numbers.count <= 2 && numbers.first?.isEmpty == false
      && numbers.allSatisfy { $0.count <= 4 && $0.allSatisfy { ("0"..."9").contains($0) } }
    guard wellFormed else { throw SplitRegexError(reason: "'{' that is no interval is not supported") }
    output.append(contentsOf: scalars[position...end])
    position = end + 1
  }

  private mutating func characterClass() throws(SplitRegexError) {
    append("[")
    position += 1
    _ = copy(ifAt: "^")
    if current == "]" { throw SplitRegexError(reason: "an empty character class is not supported") }
    while let scalar = current {
      switch scalar {
      case "]":
        append("]")
        position += 1
        return
      case "\\": try escape(inClass: true)
      case "[": throw SplitRegexError(reason: "a class inside a class is not supported")
      case "&" where isAt("&&"): throw SplitRegexError(reason: "'&&' in a class is not supported")
      default:
        output.append(scalar)
        position += 1
      }
    }
    throw SplitRegexError(reason: "a character class without its end")
  }

  private mutating func escape(inClass: Bool) throws(SplitRegexError) {
    guard position + 1 < scalars.count else { throw SplitRegexError(reason: "'\\' at the end") }
    let name = scalars[position + 1]
    position += 2
    switch name {
    case "s": append(inClass ? Self.whitespace : "[\(Self.whitespace)]")
    case "S" where !inClass: append("[^\(Self.whitespace)]")
    case "d": append("\\p{Nd}")
    case "D": append("\\P{Nd}")
    case "r": append("\\x0d")
    case "n": append("\\x0a")
    case "t": append("\\x09")
    case "f": append("\\x0c")
    case "v": append("\\x0b")
    case "p", "P": try property(name)
    case "x", "u": try codePoint(name)
    case let other where Self.isPunctuation(other):
      append("\\")
      output.append(other)
    case let other:
      throw SplitRegexError(reason: "the escape '\\\(other)' is not supported\(inClass ? " in a class" : "")")
    }
  }

  /// `\p{L}`, `\p{^Han}`: names of general categories and scripts that both know.
  private mutating func property(_ letter: Unicode.Scalar) throws(SplitRegexError) {
    let end = scalars[position...].firstIndex(of: "}") ?? scalars.endIndex
    guard current == "{", end < scalars.endIndex else {
      throw SplitRegexError(reason: "'\\\(letter)' without braces is not supported")
    }
    let name = String(String.UnicodeScalarView(scalars[position + 1..<end]))
    let bare = name.hasPrefix("^") ? String(name.dropFirst()) : name
    if Self.scripts.contains(bare) {
      // Without "sc:" PCRE2 takes the characters that are used in a script too, such as "。".
      append("\\\((letter == "p") == (name == bare) ? "p" : "P"){sc:\(bare)}")
    } else {
      guard Self.properties.contains(bare) else {
        throw SplitRegexError(reason: "the property '\(name)' is not supported")
      }
      append("\\\(letter){\(name)}")
    }
    position = end + 1
  }

  private static let properties: Set<String> = [
    "L", "Lu", "Ll", "Lt", "Lm", "Lo", "M", "Mn", "Mc", "Me", "N", "Nd", "Nl", "No", "P", "Pc", "Pd", "Ps", "Pe", "Pi",
    "Pf", "Po", "S", "Sm", "Sc", "Sk", "So", "Z", "Zs", "Zl", "Zp", "C", "Cc", "Cf", "Cn", "Co",
  ]
  private static let scripts: Set<String> = [
    "Han", "Hiragana", "Katakana", "Hangul", "Latin", "Greek", "Cyrillic", "Arabic", "Hebrew", "Thai", "Lao", "Khmer",
    "Myanmar", "Devanagari", "Bengali", "Tamil", "Telugu",
  ]

  /// `\x0A`, `\x{1F600}`, `\u00B5`
  private mutating func codePoint(_ letter: Unicode.Scalar) throws(SplitRegexError) {
    var digits = scalars[position...].prefix(letter == "u" ? 4 : 2)
    var next = position + digits.count
    let isBraced = letter == "x" && current == "{"
    if isBraced {
      let end = scalars[position...].firstIndex(of: "}") ?? scalars.endIndex
      digits = scalars[position..<end].dropFirst()
      next = end + 1
    }
    let text = String(String.UnicodeScalarView(digits))
    // In Oniguruma \x80 and above is a byte of a UTF-8 sequence.
    guard next <= scalars.count, let value = UInt32(text, radix: 16), Unicode.Scalar(value) != nil,
      letter == "u" ? digits.count == 4 : (value < 0x80 || isBraced)
    else { throw SplitRegexError(reason: "the escape '\\\(letter)\(text)' is not supported") }
    append("\\x{\(String(value, radix: 16))}")
    position = next
  }
}
