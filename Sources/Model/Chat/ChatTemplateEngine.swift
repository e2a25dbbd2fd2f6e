import Formats
import Foundation
import Template

/// A parsed template that is rendered with JSON values: the only user of the template engine.
struct ChatTemplateEngine: Sendable {
  private let template: ChatTemplate
  /// The nesting limit, half of the engine's: chats are also rendered on dispatch queues, whose threads have small stacks.
  private static let depth = 200

  /// - Throws: `ModelError` that names `name` and the template's line
  init(_ source: String, name: String) throws(ModelError) {
    do throws(TemplateError) { template = try ChatTemplate(source: source) } catch {
      throw ModelError(name, reason: error.description)
    }
  }

  /// Renders the template.
  /// - Parameter variables: by name
  /// - Returns: the text, and which bytes of it came from which message or tool
  /// - Throws: `ChatFormatError` if the template refuses its input, fails or exceeds a limit
  func rendering(_ variables: JSONObject) throws(ChatFormatError) -> Rendering {
    let values = Dictionary(uniqueKeysWithValues: variables.pairs.map { ($0.key, TemplateValue($0.value)) })
    let seconds = Date().timeIntervalSince1970
    let now = TemplateTime(unixSeconds: Int(seconds), utcOffset: TimeZone.current.secondsFromGMT())
    do throws(TemplateError) {
      let size = variables.pairs.reduce(0) { $0 + $1.value.templateSize }
      return try template.render(values, now: now, limits: .chat(inputBytes: size, depth: Self.depth))
    } catch {
      throw error.kind == .refused ? .refused(error.reason) : .failed(error.description)
    }
  }
}

extension JSONValue {
  /// The bytes of all strings, and 64 for each value: limits of rendering grow with it.
  fileprivate var templateSize: Int {
    switch self {
    case .string(let text): 64 + text.utf8.count
    case .array(let values): values.reduce(64) { $0 + $1.templateSize }
    case .object(let object): object.pairs.reduce(64) { $0 + $1.key.utf8.count + $1.value.templateSize }
    default: 64
    }
  }
}

extension TemplateValue {
  init(_ value: JSONValue) {
    switch value {
    case .null: self = .null
    case .bool(let value): self = .bool(value)
    case .integer(let value): self = .int(value)
    case .number(let value): self = .double(value)
    // As Python reads a number with a fraction.
    case .decimal(let text): self = .double(Double(text) ?? .nan)
    case .string(let value): self = .string(value)
    case .array(let values): self = .array(values.map { TemplateValue($0) })
    case .object(let object): self = .object(TemplateObject(object.pairs.map { ($0.key, TemplateValue($0.value)) }))
    }
  }
}
