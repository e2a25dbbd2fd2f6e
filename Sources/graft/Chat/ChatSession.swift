import Formats
import Foundation

/// A conversation, and the commands that a person can give in it. A value without a model or a terminal.
struct ChatSession {
  /// What is to be done with an input.
  enum Action: Equatable {
    case nothing
    case end
    /// The messages are to be answered.
    case ask
    /// A text for the person.
    case say(String)
    /// An error for the person.
    case failure(String)
    /// Adapters to use, or `nil` to show which ones are used.
    case adapters(String?)
  }

  /// As the API has them.
  private(set) var messages: [JSONValue] = []
  private var system: String

  init(system: String) {
    self.system = system
    reset()
  }

  static let help = """
    /adapter NAME[:WEIGHT]   use an adapter, or several with commas between; none for the base
    /adapter                 show which is used
    /system TEXT             begin anew with a system message
    /reset                   begin anew
    /help                    show this
    /exit                    end; so does Ctrl-D
    A message that begins with / is written with two: //
    """

  /// Takes a line or several.
  mutating func take(_ input: String) -> Action {
    let text = input.trimmingCharacters(in: .whitespacesAndNewlines)
    if text.isEmpty { return .nothing }
    guard text.hasPrefix("/") else { return question(text) }
    if text.hasPrefix("//") { return question(String(text.dropFirst())) }
    let word = String(text.prefix { !$0.isWhitespace })
    let rest = text.dropFirst(word.count).trimmingCharacters(in: .whitespaces)
    switch word {
    case "/exit", "/quit": return .end
    case "/help": return .say(Self.help)
    case "/adapter": return .adapters(rest.isEmpty ? nil : rest)
    case "/reset":
      reset()
      return .nothing
    case "/system":
      system = rest
      reset()
      return .nothing
    default: return .failure("there is no command \(word); /help lists them, and // begins a message with /")
    }
  }

  /// Adds the answer to the last question.
  mutating func finish(_ answer: String) { messages.append(Self.message("assistant", answer)) }

  /// Takes back the last question, which has no answer.
  mutating func forgetQuestion() { messages.removeLast() }

  private mutating func question(_ text: String) -> Action {
    messages.append(Self.message("user", text))
    return .ask
  }

  private mutating func reset() { messages = system.isEmpty ? [] : [Self.message("system", system)] }

  private static func message(_ role: String, _ text: String) -> JSONValue {
    ["role": .string(role), "content": .string(text)]
  }
}
