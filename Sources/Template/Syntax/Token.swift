/// One token of a template, with the line that it begins on.
struct Token {
  enum Kind: Equatable {
    case data([UInt8])
    case variableBegin, variableEnd, blockBegin, blockEnd
    case name(String)
    case string([UInt8])
    case integer(Int)
    case float(Double)
    case symbol(Symbol)
    case end
  }

  enum Symbol: String, CaseIterable {
    case power = "**"
    case floorDivide = "//"
    case equal = "=="
    case notEqual = "!="
    case greaterOrEqual = ">="
    case lessOrEqual = "<="
    case add = "+"
    case subtract = "-"
    case divide = "/"
    case multiply = "*"
    case modulo = "%"
    case tilde = "~"
    case leftBracket = "["
    case rightBracket = "]"
    case leftParenthesis = "("
    case rightParenthesis = ")"
    case leftBrace = "{"
    case rightBrace = "}"
    case greater = ">"
    case less = "<"
    case assign = "="
    case dot = "."
    case colon = ":"
    case pipe = "|"
    case comma = ","
    /// Part of no statement or expression. As a token, it makes an error say what was expected instead of it.
    case semicolon = ";"
  }

  var kind: Kind
  var line: Int

  /// How an error message names the token.
  var described: String {
    switch kind {
    case .data: "template text"
    case .variableBegin: "{{"
    case .variableEnd: "end of print statement"
    case .blockBegin: "{%"
    case .blockEnd: "end of statement block"
    case .name(let name): name
    case .string(let bytes): String(decoding: bytes.prefix(40), as: UTF8.self)
    case .integer(let value): String(value)
    case .float(let value): String(value)
    case .symbol(let symbol): symbol.rawValue
    case .end: "end of template"
    }
  }
}
