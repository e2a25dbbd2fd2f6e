/// What is wrong with a regular expression or a grammar that someone wrote, and where.
public struct NotationError: Error, Equatable, Sendable, CustomStringConvertible {
  /// What is wrong, naming the text that causes it.
  public let reason: String
  /// The line, from 1.
  public let line: Int
  /// The character of the line, from 1.
  public let column: Int

  init(_ reason: String, in text: [Unicode.Scalar], at position: Int) {
    self.reason = reason
    let before = text[..<min(position, text.count)]
    line = before.count { $0 == "\n" } + 1
    column = before.count - (before.lastIndex(of: "\n").map { $0 + 1 } ?? 0) + 1
  }

  /// "line 2, column 5: …"; the line is left out where it is the first.
  public var description: String {
    line == 1 ? "column \(column): \(reason)" : "line \(line), column \(column): \(reason)"
  }
}
