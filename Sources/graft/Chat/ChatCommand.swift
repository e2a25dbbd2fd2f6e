import ArgumentParser
import Client
import Dispatch
import Formats
import Foundation

struct ChatCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "chat", abstract: "Chats in the terminal, with a model or with a running server.",
    discussion: """
      Each line is a message. /help lists the commands. A line that ends in \\ goes on in the next one, and lines between \
      two lines of \"\"\" are one message. Ctrl-C stops an answer, and ends the program otherwise. On a terminal, lines can be \
      edited, and the arrow keys bring earlier ones back.
      """)

  @OptionGroup(title: "Server") var server: ServerOptions

  @OptionGroup(title: "Without a server") var options: ModelOptions

  @Option(
    help: "An adapter: its folder, or its name on a server; may be given several times, and their changes are summed.")
  var adapter: [String] = []

  @Option(help: "A system message.")
  var system: String = ""

  @Option(help: "Most tokens of an answer; 0 for as many as fit.")
  var maxTokens: Int = 0

  @OptionGroup(title: "Sampling") var sampling: SamplingOptions

  @OptionGroup var template: ChatTemplateOptions

  func validate() throws {
    if server.url == nil { try options.requireModel() }
    guard maxTokens >= 0 else { throw ValidationError("--max-tokens must not be negative") }
  }

  func run() throws {
    let backend = try backend()
    defer { backend.close() }
    if !adapter.isEmpty { try backend.use(adapters: adapter.joined(separator: ",")) }
    let editor = LineEditor()
    let interrupts = DispatchSource.makeSignalSource(signal: SIGINT)
    signal(SIGINT, SIG_IGN)
    interrupts.setEventHandler {
      if backend.interrupt() { return }
      print()
      LineEditor.restoreTerminal()
      endProcess(ExitCode.interrupted.rawValue)
    }
    interrupts.resume()
    if editor.isTerminal { writeError("Chatting with \(backend.title). /help lists the commands.") }
    var session = ChatSession(system: system)
    while let input = editor.readMessage() {
      switch session.take(input) {
      case .nothing: continue
      case .end: return
      case .say(let text): Self.write(text + "\n")
      case .failure(let text): writeError("graft: \(text)")
      case .adapters(let names):
        do {
          if let names { try backend.use(adapters: names) }
          Self.write(backend.adapterText + "\n")
        } catch { writeError("graft: \(error)") }
      case .ask:
        do {
          let answer = try backend.answer(session.messages, receive: Self.write)
          Self.write("\n")
          session.finish(answer)
        } catch {
          writeError("graft: \(error)")
          session.forgetQuestion()
        }
      }
    }
    if editor.isTerminal { print() }
  }

  /// Writes at once, as `print` does not in a pipe.
  @Sendable private static func write(_ text: String) { FileHandle.standardOutput.write(Data(text.utf8)) }

  private func backend() throws -> any ChatBackend {
    if let client = try server.client() {
      return ServerChat(client.http, sampling: sampling, maxTokens: maxTokens)
    }
    try options.requireModel()
    return try ModelChat(options, template, sampling: sampling, maxTokens: maxTokens)
  }
}

/// What answers a chat.
protocol ChatBackend: Sendable {
  /// The model or server, for people.
  var title: String { get }
  /// The adapters in use, for people.
  var adapterText: String { get }
  /// Uses these adapters from the next answer on: "NAME[:WEIGHT],…", or "none".
  func use(adapters: String) throws
  /// Answers a chat, and gives the text to `receive` as it comes.
  /// - Returns: the answer, which is not whole if it was interrupted
  func answer(_ messages: [JSONValue], receive: @escaping @Sendable (String) -> Void) throws -> String
  /// Ends the answer that runs.
  /// - Returns: false if none runs
  func interrupt() -> Bool
  func close()
}
