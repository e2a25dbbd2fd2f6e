/// Why a template could not be parsed or rendered. The description is one line and has the line number in the source.
public struct TemplateError: Error, Equatable, Sendable, CustomStringConvertible {
  /// What went wrong.
  public enum Kind: Equatable, Sendable {
    /// The source is not a template that this engine understands.
    case syntax
    /// The template called `raise_exception`: it refuses the chat. `reason` is the template's message, for the client.
    case refused
    /// An operation failed while rendering, because of an undefined value, operands of the wrong type or a wrong argument.
    case runtime
    /// A limit of `TemplateLimits` was reached.
    case limit
  }

  /// What went wrong.
  public let kind: Kind
  /// The line of the template's source, from 1; `nil` if the error belongs to no line.
  public let line: Int?
  /// What went wrong, in words.
  public let reason: String

  /// - Parameters: as the properties
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
