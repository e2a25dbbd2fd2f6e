import Tokenization
import Formats
import ArgumentParser
import Dispatch
import Foundation
import Kernels
import Model
import Serve
import Synchronization

struct GenerateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "generate", abstract: "Completes a prompt and streams the text to the terminal.")

  @OptionGroup(title: "Model") var options: ModelOptions

  @Option(help: "The prompt; standard input where it is missing.")
  var prompt: String?

  @Option(help: "An adapter: a PEFT or MLX-LM folder, or a GGUF file.")
  var adapter: String = ""

  @Option(help: "Most tokens to generate.")
  var maxTokens: Int = 128

  @OptionGroup(title: "Sampling") var sampling: SamplingOptions

  func validate() throws {
    try options.requireModel()
    guard maxTokens > 0 else { throw ValidationError("--max-tokens must be positive") }
  }

  func run() throws {
    options.kernel.writeWarning()
    let model = try LoadedModel(options)
    var adapters = AdapterSet.none
    if !adapter.isEmpty {
      let path = URL(filePath: adapter)
      AdapterImport.writeNotes(path)
      adapters = AdapterSet([(try Adapter.read(path, base: model.base, mode: options.arithmetic.compute), 1)])
    }
    let text = prompt ?? String(decoding: FileHandle.standardInput.readDataToEndOfFile(), as: UTF8.self)
    let tokens = model.tokenizer.encode(text, parsingSpecialTokens: true)
    guard !tokens.isEmpty else { throw ModelError("prompt", reason: "it is empty") }
    guard tokens.count + maxTokens <= model.contextLength else {
      throw ModelError(
        "prompt",
        reason: "\(tokens.count) tokens and --max-tokens \(maxTokens) exceed the context of \(model.contextLength)")
    }
    let engine = Engine(transformer: model.transformer, cache: model.cache, tokenizer: model.tokenizer)
    engine.start()
    let outcome = Outcome()
    let interrupts = DispatchSource.makeSignalSource(signal: SIGINT)
    signal(SIGINT, SIG_IGN)
    interrupts.setEventHandler { outcome.end(.interrupted) }
    interrupts.resume()
    let started = ContinuousClock.now
    _ = engine.submit(
      GenerationRequest(
        prompt: tokens, adapters: adapters, options: .init(maxTokens: maxTokens, sampling: sampling.parameters))
    ) { event in
      switch event {
      case .output(let text, _): FileHandle.standardOutput.write(Data(text.utf8))
      case .finished(_, let usage): outcome.end(.done(usage))
      case .failed(let error): outcome.end(.failed(error))
      case .prompt, .pooled: break
      }
    }
    switch outcome.wait() {
    case .done(let usage):
      let seconds = started.duration(to: .now) / .seconds(1)
      print()
      writeError(
        "\(usage.promptTokens) tokens in, \(usage.completionTokens) out, \(Int(seconds * 1000)) ms in all")
    case .failed(let error): throw ModelError("generation", reason: error.advice)
    case .interrupted:
      print()
      throw ExitCode.interrupted
    }
  }
}

/// How a generation ended. The main thread waits for it.
final class Outcome: Sendable {
  enum End: Sendable {
    case done(GenerationUsage)
    case failed(EngineError)
    case interrupted
  }

  private let end = Mutex<End?>(nil)
  private let ended = DispatchSemaphore(value: 0)

  func end(_ value: End) {
    end.withLock { $0 = $0 ?? value }
    ended.signal()
  }

  func wait() -> End {
    ended.wait()
    return end.withLock { $0 ?? .interrupted }
  }
}
