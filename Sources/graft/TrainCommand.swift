import ArgumentParser
import Dispatch
import Foundation
import Kernels
import Model
import Synchronization
import Train

struct TrainCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "train", abstract: "Trains a LoRA adapter on the base as it is served.",
    discussion: """
      --data is a JSONL file: OpenAI's {"messages"}, {"prompt","completion"}, {"text"}, {"tokens","labels"}, or for
      --method dpo {"input","preferred_output","non_preferred_output"} or {"prompt","chosen","rejected"}. --preview
      shows what of it is learnt. The adapter is written to --output as PEFT reads it, with a plot of its loss.
      Ctrl-C saves; --resume goes on where a run ended, whatever ended it, to the same bytes.
      """)

  @OptionGroup var options: ModelOptions

  @Option(help: "The training data, a JSONL file.")
  var data: String

  @Option(help: "Validation data of the same form.")
  var validation: String?

  @Option(help: "The adapter's folder.")
  var output: String?

  @Flag(help: "Only print the rows, with what is learnt in colour (on a terminal) or in brackets.")
  var preview = false

  @OptionGroup var template: ChatTemplateOptions

  @Option(help: "supervised or dpo.")
  var method: String = "supervised"

  @Option(help: "Draws order, dropout and initial values.")
  var seed = 42

  @Flag(help: "Go on from the newest checkpoint in --output.")
  var resume = false

  @OptionGroup(title: "Hyperparameters") var hyperparameters: HyperparameterOptions

  func validate() throws {
    guard Hyperparameters.Method(rawValue: method) != nil else {
      throw ValidationError("--method must be supervised or dpo")
    }
    guard preview || output != nil else { throw ValidationError("--output is missing: the adapter's folder") }
  }

  func run() throws {
    let settings: Hyperparameters
    do {
      settings = try hyperparameters.hyperparameters(method: .init(rawValue: method) ?? .supervised, seed: seed)
    } catch let error as HyperparameterError {
      let flag = error.field.replacingOccurrences(of: "_", with: "-")
      throw ValidationError("--\(flag): \(error.reason)")
    }
    let source = try openCheckpoint(at: options.modelURL)
    let tokenizer = try Tokenizer(source.tokenizer, name: options.modelURL.path)
    let chat = try template.format(tokenizer, name: options.modelStem)
    let pool = ThreadPool(threads: options.threads)
    let base = try openBase(source, options, pool)
    func rows(_ path: String) throws -> [TrainingExample] {
      try JSONLRows(
        file: URL(filePath: path), tokenizer: tokenizer, endToken: base.config.eosTokens.first, chat: chat,
        method: settings.method
      ).examples()
    }
    let training = try TrainingData(
      rows(data), validation: validation.map(rows), hyperparameters: settings, model: base.config)
    guard !preview, let output else {
      return TrainingPreview(tokenizer: tokenizer, usesColour: isatty(1) == 1).show(training)
    }
    let folder = URL(filePath: output)
    let trainer = try Trainer(
      base: base, compute: Compute(pool: pool, mode: options.compute), data: training, hyperparameters: settings,
      configuration: TrainerConfiguration(
        folder: folder, baseName: options.modelStem, initialAdapter: settings.initAdapter.map { URL(filePath: $0) }),
      resume: resume)
    let forecast = try MemoryForecast(
      base: base, hyperparameters: settings, longestExample: training.longestExample)
    writeError(
      "\(training.training.count) examples (\(training.cutCount) cut, \(training.lossless) without loss left out), "
        + "\(training.validation.count) held out; \(trainer.adapter.parameterCount) parameters; "
        + "\(trainer.totalSteps) steps\(trainer.step > 0 ? ", from step \(trainer.step)" : ""); "
        + "about \(forecast.total >> 20) MiB")
    try train(trainer, folder)
  }

  private func train(_ trainer: Trainer, _ folder: URL) throws {
    let flag = InterruptFlag()
    let interrupts = DispatchSource.makeSignalSource(signal: SIGINT)
    signal(SIGINT, SIG_IGN)
    interrupts.setEventHandler { flag.raise() }
    interrupts.resume()
    defer { interrupts.cancel() }
    var line = TrainingLine(steps: trainer.totalSteps, done: trainer.step)
    trainer.run(shouldStop: { flag.isRaised }, onEvent: { line.show($0) })
    line.finish()
    try Data(LossPlot(losses: trainer.losses, title: folder.lastPathComponent).svg.utf8)
      .write(to: folder.appending(path: "loss.svg"), options: .atomic)
    if case .failed(let reason) = trainer.state { throw ModelError("training", reason: reason) }
    if flag.isRaised, trainer.state == .running {
      let saved = try trainer.saveCheckpoint()
      writeError(saved.map { "saved \($0.path); --resume goes on from there" } ?? "stopped before the first step")
      throw ExitCode.interrupted
    }
    print(folder.path)
  }
}

/// Raised by Ctrl-C, read between slices.
private final class InterruptFlag: Sendable {
  private let raised = Atomic<Bool>(false)
  var isRaised: Bool { raised.load(ordering: .relaxed) }
  func raise() { raised.store(true, ordering: .relaxed) }
}

/// The run's state on standard error: one line that is redrawn on a terminal, else a line for every event.
private struct TrainingLine {
  let steps: Int
  private let first: Int
  private let started = ContinuousClock.now
  private let isTerminal = isatty(2) == 1
  private var tokens = 0

  init(steps: Int, done: Int) {
    self.steps = steps
    first = done
  }

  mutating func show(_ event: TrainerEvent) {
    switch event {
    case .metrics(let step):
      tokens += step.tokens
      let seconds = started.duration(to: .now) / .seconds(1)
      let left = seconds / Double(step.step - first) * Double(steps - step.step)
      let text = String(
        format: "step %d/%d  loss %.4f  norm %.3f  rate %.2e  %.0f tokens/s  %@ left", step.step, steps,
        step.trainLoss, step.gradNorm, step.learningRate, Double(tokens) / seconds, Self.time(left))
      write(isTerminal ? "\r\u{1B}[K\(Self.bar(step.step, steps)) \(text)" : text + "\n")
    case .validation(let metrics):
      note(String(format: "validation loss %.4f%@", metrics.loss, metrics.isBest ? ", the best so far" : ""))
    case .checkpoint(_, let folder): note("checkpoint \(folder.path)")
    case .rolledBack(let from, let to, let reason): note("\(reason) in step \(from): back to step \(to)")
    case .stoppedEarly(let step, let best): note("stopped after step \(step); step \(best) was the best")
    case .finished, .failed: break
    }
  }

  func finish() { if isTerminal { write("\n") } }

  private func note(_ text: String) { write((isTerminal ? "\r\u{1B}[K" : "") + text + "\n") }
  private func write(_ text: String) { FileHandle.standardError.write(Data(text.utf8)) }

  private static func bar(_ done: Int, _ all: Int) -> String {
    let filled = done * 20 / max(all, 1)
    return String(repeating: "█", count: filled) + String(repeating: "░", count: 20 - filled)
  }

  private static func time(_ seconds: Double) -> String {
    let whole = Int(min(seconds, 1e7).rounded(.up))
    if whole < 120 { return "\(whole) s" }
    return whole < 7200 ? "\(whole / 60) min" : "\(whole / 3600) h \(whole / 60 % 60) min"
  }
}
