import Formats
import ArgumentParser
import Dispatch
import Foundation
import Kernels
import Model
import Serve
import Synchronization

struct ChatCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "chat", abstract: "Chats with the model in the terminal.",
    discussion: """
      Each line is a message. /reset begins anew, /exit ends; Ctrl-C stops an answer, and ends the program otherwise.
      """)

  @OptionGroup var options: ModelOptions

  @Option(help: "A PEFT adapter's folder; may be given several times, and their changes are summed.")
  var adapter: [String] = []

  @Option(help: "A system message.")
  var system: String = ""

  @Option(help: "Most tokens of an answer; 0 for as many as fit.")
  var maxTokens: Int = 0

  @OptionGroup var sampling: SamplingOptions

  @OptionGroup var template: ChatTemplateOptions

  func validate() throws {
    try options.requireModel()
    guard maxTokens >= 0 else { throw ValidationError("--max-tokens must not be negative") }
  }

  func run() throws {
    let opened = try OpenedModel(options)
    let format = try template.format(opened.tokenizer, name: options.modelStem).get()
    let model = try LoadedModel(opened)
    let adapters = AdapterSet(
      try adapter.map { (try Adapter(peft: URL(filePath: $0), base: model.base, mode: options.arithmetic.compute), 1) })
    let engine = Engine(transformer: model.transformer, cache: model.cache, tokenizer: model.tokenizer)
    engine.start()
    defer { engine.stop() }
    let running = RunningAnswer()
    let interrupts = DispatchSource.makeSignalSource(signal: SIGINT)
    signal(SIGINT, SIG_IGN)
    interrupts.setEventHandler { running.interrupt() }
    interrupts.resume()
    let beginning: [JSONValue] = system.isEmpty ? [] : [message("system", system)]
    var messages = beginning
    while let line = ask() {
      let text = line.trimmingCharacters(in: .whitespaces)
      switch text {
      case "": continue
      case "/exit", "/quit": return
      case "/reset":
        messages = beginning
        continue
      default: break
      }
      messages.append(message("user", text))
      do throws(ChatFormatError) {
        let prompt = try format.tokens(Conversation(messages: messages))
        let room = min(engine.positionLimit - prompt.count, maxTokens == 0 ? .max : maxTokens)
        guard room > 0 else {
          writeError("The conversation is longer than the model's context; /reset begins anew.")
          messages.removeLast()
          continue
        }
        let request = GenerationRequest(
          prompt: prompt, adapters: adapters,
          options: .init(maxTokens: room, sampling: sampling.parameters, endTokens: format.endTokens))
        messages.append(message("assistant", answer(request, engine, running)))
      } catch {
        writeError("graft: \(error.message)")
        messages.removeLast()
      }
    }
    if isatty(STDIN_FILENO) != 0 { print() }
  }

  private func message(_ role: String, _ text: String) -> JSONValue {
    ["role": .string(role), "content": .string(text)]
  }

  private func ask() -> String? {
    if isatty(STDIN_FILENO) != 0 { FileHandle.standardOutput.write(Data("> ".utf8)) }
    return readLine()
  }

  /// Streams the answer to the terminal, and returns it, complete or not.
  private func answer(_ request: GenerationRequest, _ engine: Engine, _ running: RunningAnswer) -> String {
    let outcome = Outcome()
    let text = Mutex("")
    running.outcome.withLock { $0 = outcome }
    let id = engine.submit(request) { event in
      switch event {
      case .output(let piece, _):
        text.withLock { $0 += piece }
        FileHandle.standardOutput.write(Data(piece.utf8))
      case .finished(_, let usage): outcome.end(.done(usage))
      case .failed(let error): outcome.end(.failed(error))
      case .prompt, .pooled: break
      }
    }
    let end = outcome.wait()
    running.outcome.withLock { $0 = nil }
    FileHandle.standardOutput.write(Data("\n".utf8))
    if case .failed(let error) = end { writeError("graft: \(error.advice)") }
    if case .interrupted = end { engine.cancel(id) }
    return text.withLock { $0 }
  }
}

/// The answer that is being generated, if any: Ctrl-C stops it.
private final class RunningAnswer: Sendable {
  let outcome = Mutex<Outcome?>(nil)

  /// Ends the answer, or the program if no answer is being generated.
  func interrupt() {
    guard let outcome = outcome.withLock({ $0 }) else {
      print()
      Foundation.exit(ExitCode.interrupted.rawValue)
    }
    outcome.end(.interrupted)
  }
}
