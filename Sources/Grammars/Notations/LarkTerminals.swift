/// The terminals of a grammar in Lark's notation. Each is one regular expression, which others may be part of.
struct LarkTerminals {
  private static let deepest = 150

  private enum Terminal {
    case written(NotationNode)
    /// It is part of what is being read.
    case open
    case read(TextExpression, size: Int)
  }

  private var terminals: [String: Terminal] = [:]

  /// The names, sorted.
  var names: [String] { terminals.keys.sorted() }

  /// Adds a terminal.
  /// - Returns: whether there was none of this name
  mutating func define(_ name: String, _ node: NotationNode) -> Bool {
    terminals.updateValue(.written(node), forKey: name) == nil
  }

  /// A terminal's expression as a node.
  mutating func node(
    of name: String, _ scanner: ScalarScanner, _ budget: CompilationBudget
  ) throws(NotationError) -> NotationNode {
    let (text, size) = try expression(of: .reference(name, position: 0), scanner, budget)
    return .text(text, size: size)
  }

  /// The expression of a node that refers to terminals only, and its size.
  /// - Throws: where it refers to something else, or a terminal is part of itself
  mutating func expression(
    of node: NotationNode, _ scanner: ScalarScanner, _ budget: CompilationBudget, depth: Int = 0
  ) throws(NotationError) -> (text: TextExpression, size: Int) {
    guard depth < Self.deepest else {
      throw scanner.error("terminals more than \(Self.deepest) deep in each other", at: 0)
    }
    func all(
      _ parts: [NotationNode], in terminals: inout LarkTerminals
    ) throws(NotationError) -> (texts: [TextExpression], size: Int) {
      var texts: [TextExpression] = []
      var size = 1
      for part in parts {
        let next = try terminals.expression(of: part, scanner, budget, depth: depth + 1)
        texts.append(next.text)
        size += next.size
      }
      do throws(CompilationBudget.Exceeded) { try budget.spend(size) } catch {
        throw scanner.error(error.description, at: 0)
      }
      return (texts, size)
    }
    switch node {
    case .text(let text, let size): return (text, size)
    case .sequence(let parts):
      let (texts, size) = try all(parts, in: &self)
      return (.joined(texts), size)
    case .alternatives(let parts):
      let (texts, size) = try all(parts, in: &self)
      return (.either(texts), size)
    case .repetition(let part, let minimum, let maximum):
      let inner = try expression(of: part, scanner, budget, depth: depth + 1)
      return (inner.text.repeated(minimum, maximum), inner.size + 1)
    case .reference(let name, let position):
      switch terminals[name] {
      case .read(let text, let size): return (text, size)
      case .open: throw scanner.error("the terminal \"\(name)\" is part of itself", at: position)
      case nil: throw scanner.error("there is no terminal \"\(name)\", and a terminal has no rules", at: position)
      case .written(let inner):
        terminals[name] = .open
        let (text, size) = try expression(of: inner, scanner, budget, depth: depth + 1)
        terminals[name] = .read(text, size: size)
        return (text, size)
      }
    }
  }

  /// The terminals that can be imported, as llguidance has them.
  static let common: [String: TextExpression] = {
    do { return try LarkParser.terminals(commonText) } catch { preconditionFailure("\(error)") }
  }()

  private static let commonText = #"""
    DIGIT: "0".."9"
    HEXDIGIT: "a".."f" | "A".."F" | DIGIT
    INT: DIGIT+
    SIGNED_INT: ["+" | "-"] INT
    DECIMAL: INT "." INT? | "." INT
    _EXP: "e"i SIGNED_INT
    FLOAT: INT _EXP | DECIMAL _EXP?
    SIGNED_FLOAT: ["+" | "-"] FLOAT
    NUMBER: FLOAT | INT
    SIGNED_NUMBER: ["+" | "-"] NUMBER
    ESCAPED_STRING: /"([^"\\]|\\.)*"/
    LCASE_LETTER: "a".."z"
    UCASE_LETTER: "A".."Z"
    LETTER: UCASE_LETTER | LCASE_LETTER
    WORD: LETTER+
    CNAME: ("_" | LETTER) ("_" | LETTER | DIGIT)*
    WS_INLINE: /[ \t]+/
    WS: /[ \t\f\r\n]+/
    CR: /\r/
    LF: /\n/
    NEWLINE: (CR? LF)+
    SH_COMMENT: /#[^\n]*/
    CPP_COMMENT: /\/\/[^\n]*/
    C_COMMENT: /\/\*([^*]|\*+[^*\/])*\*+\//
    SQL_COMMENT: /--[^\n]*/
    """#
}
