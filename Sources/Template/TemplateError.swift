/// Why a template could not be parsed or rendered, in one line with the line number of the template's source.
public struct TemplateError: Error, Equatable, Sendable, CustomStringConvertible {
  public enum Kind: Equatable, Sendable {
    /// The source is not a template that this engine understands.
    case syntax
    /// The template itself refused the chat with `raise_exception`; `reason` is its own message, for the client.
    case refused
    /// An operation failed while rendering: an undefined value used, operands that do not fit, a wrong argument.
    case runtime
    /// A limit of `TemplateLimits` was reached.
    case limit
  }

  public let kind: Kind
  /// The line of the template's source, from 1; nil where there is none, as for a variable that nests too deeply.
  public let line: Int?
  public let reason: String

  public init(kind: Kind, line: Int?, reason: String) {
    self.kind = kind
    self.line = line
    self.reason = reason
  }

  /// "chat template, line 3: 'tools' is undefined"
  public var description: String {
    if let line { "chat template, line \(line): \(reason)" } else { "chat template: \(reason)" }
  }
}
