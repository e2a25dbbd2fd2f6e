import Tokenization
import Formats
import ArgumentParser
import Dispatch
import Foundation
import Kernels
import Model
import Serve
import Synchronization
import Train

struct TrainCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "train", abstract: "Trains a LoRA adapter on the base as it is served.",
    discussion: """
      --data is a JSONL file: OpenAI's {"messages"}, {"prompt","completion"}, {"text"}, {"tokens","labels"}, or for \
      --method dpo {"input","preferred_output","non_preferred_output"} or {"prompt","chosen","rejected"}. --preview \
      shows what of it is learnt. The adapter is written to --output as PEFT reads it, with a plot of its loss.

      Ctrl-C saves; --resume goes on where a run ended, whatever ended it, to the same bytes, and needs no flag again \
      but --output. A folder that is not empty is refused without --resume or --overwrite.

      Rows of Alpaca, ShareGPT and TRL are read as chats; what became of them is told.
      """)

  @OptionGroup(title: "Model") var options: ModelOptions

  @Option(help: "The training data, a JSONL file.")
  var data: String?

  @Option(help: "Validation data of the same form.")
  var validation: String?

  @Option(help: "The adapter's folder: new or empty.")
  var output: String?

  @Flag(help: "Only print the rows, with what is learnt in colour (on a terminal) or in brackets.")
  var preview = false

  @OptionGroup var template: ChatTemplateOptions

  @Option(help: "supervised or dpo (default: supervised).")
  var method: String?

  @Option(help: "Draws order, dropout and initial values (default: 42).")
  var seed: Int?

  @Flag(help: "Go on from the newest checkpoint in --output.")
  var resume = false

  @Flag(help: "Begin anew in a folder that is not empty: the run that is there is removed.")
  var overwrite = false

  @Option(help: "Answers to show at the end, without and with the adapter; 0 for none.")
  var samples: Int = 2

  @OptionGroup(title: "Hyperparameters") var hyperparameters: HyperparameterOptions

  func validate() throws {
    if let method, Hyperparameters.Method(rawValue: method) == nil {
      throw ValidationError("--method must be supervised or dpo")
    }
    guard preview || output != nil else { throw ValidationError("--output is missing: the adapter's folder") }
    guard (0...100).contains(samples) else { throw ValidationError("--samples must be between 0 and 100") }
    guard !resume || !overwrite else { throw ValidationError("--resume and --overwrite do not go together") }
    guard !resume || !preview else { throw ValidationError("--resume and --preview do not go together") }
    if !resume {
      try options.requireModel()
      guard data != nil else { throw ValidationError("--data is missing: a JSONL file") }
      // Checks the given settings alone; the settings of a resumed run are added later.
      do { _ = try settings(JSONObject(keepingFirst: [])) } catch let error as HyperparameterError {
        throw ValidationError(error.asFlag)
      }
    }
  }

  mutating func run() throws {
    do { try train() } catch let error as HyperparameterError {
      Graft.fail("graft: \(error.asFlag)", code: 2)
    }
  }

  private mutating func train() throws {
    let destination = output.map { TrainOutput(folder: URL(filePath: $0).standardizedFileURL) }
    if !preview { try destination?.check(resume: resume, overwrite: overwrite) }
    let recorded = resume ? try destination?.record() : nil
    try takeMissing(from: recorded, destination)
    let settings = try settings(recorded?.hyperparameters ?? JSONObject(keepingFirst: []))
    let initial = settings.initAdapter.map { URL(filePath: $0) }
    if let destination, let initial, overwrite, destination.contains(initial) {
      throw ModelError("--init-adapter", reason: "\(initial.path) is in --output, which --overwrite clears")
    }

    let source = try openPublishedModel(at: options.modelURL)
    source.writeNotes(options.modelStem)
    // The data is read first, so that its errors are reported before the base is quantised, which may take minutes.
    let training = try read(source, settings)
    guard !preview, let destination else { return }
    if initial == nil { _ = try settings.targets(source.config) }
    if let initial { AdapterImport.writeNotes(initial) }
    try AdapterImport.withPEFTFolder(ifAny: initial, config: source.config) {
      try train(source, training, settings, initial: $0, destination, isRecorded: recorded != nil)
    }
  }

  /// - Parameter initial: a PEFT folder
  private func train(
    _ source: any PublishedModel, _ training: TrainingData, _ settings: Hyperparameters, initial: URL?,
    _ destination: TrainOutput, isRecorded: Bool
  ) throws {
    options.kernel.writeWarning()
    let pool = ThreadPool(threads: options.arithmetic.threads)
    let base = try openBase(source, options, pool)
    let compute = Compute(kernels: options.kernel.set, pool: pool, mode: options.arithmetic.compute)
    let forecast = try MemoryForecast(
      base: base, hyperparameters: settings, data: training, initialAdapter: initial,
      packsGradients: compute.packsGradients)
    if let initial { try TrainableAdapter.check(peft: initial, settings, model: base.config) }
    // Everything that was given has been checked by now.
    if overwrite { try destination.clear() }
    let trainer = try Trainer(
      base: base, compute: compute, data: training, hyperparameters: settings,
      configuration: TrainerConfiguration(
        folder: destination.folder, baseName: options.modelStem, initialAdapter: initial),
      resume: resume)
    if !isRecorded { try destination.write(record(settings)) }
    if resume, trainer.step == 0 { writeError("no checkpoint was written yet: the run begins at its first step") }
    writeError(
      "\(training.training.count) examples (\(training.cutCount) cut, \(training.lossless) without loss left out), "
        + "\(training.validation.count) held out; \(trainer.adapter.parameterCount) parameters; "
        + "\(trainer.totalSteps) steps\(trainer.step > 0 ? ", from step \(trainer.step)" : ""); "
        + "about \(forecast.total >> 20) MiB")
    let accuracies = try train(trainer, destination.folder)
    report(trainer.history, accuracies, destination.folder)
    show(source, base, compute, training, initial, destination.folder)
    let commands = TrainingSummary.commands(
      folder: destination.folder, model: options.model, settings: commandSettings)
    writeError("\n" + commands.joined(separator: "\n"))
    print(destination.folder.path)
  }

  /// The options that the commands at the end need, too.
  private var commandSettings: [String] {
    var settings: [String] = []
    if options.dataDir != DataFolder.defaultPath { settings += ["--data-dir", options.dataDir] }
    if options.arithmetic.compute != .fast { settings += ["--compute", options.arithmetic.compute.rawValue] }
    if !template.chatTemplate.isEmpty { settings += ["--chat-template", template.chatTemplate] }
    return settings
  }

  private func report(_ history: LossHistory, _ accuracies: TrainingLine.Accuracies, _ folder: URL) {
    let summary = TrainingSummary(
      history: history, trainAccuracy: accuracies.training, validationAccuracy: accuracies.validation)
    writeError("\n" + summary.lines.joined(separator: "\n") + "\nplot           \(folder.path)/loss.svg")
  }

  /// Shows some answers without and with the adapter. The adapter is complete already, so an error here is only told.
  private func show(
    _ source: any PublishedModel, _ base: Base, _ compute: Compute, _ data: TrainingData, _ initial: URL?,
    _ folder: URL
  ) {
    guard samples > 0 else { return }
    do {
      let tokenizer = try Tokenizer(source.tokenizer, name: options.modelURL.path)
      let chat = try? template.format(tokenizer, name: options.modelStem).get()
      let maker = TrainingSamples(
        base: base, compute: compute, tokenizer: tokenizer, endTokens: chat?.endTokens ?? [])
      let made = try maker.make(samples, of: data, initial: initial, trained: folder)
      if !made.isEmpty { writeError("\n" + made.text(for: .error)) }
    } catch { writeError("no samples: \(error)") }
  }

  /// Sets every option that was not given to the value that the resumed run recorded.
  private mutating func takeMissing(from recorded: TrainOutput.Record?, _ destination: TrainOutput?) throws {
    if let recorded {
      if options.model.isEmpty { options.model = recorded.model }
      if template.chatTemplate.isEmpty { template.chatTemplate = recorded.chatTemplate }
      if !CommandLine.gives("compute"), let mode = ComputeMode(rawValue: recorded.compute) {
        options.arithmetic.compute = mode
      }
      if !CommandLine.gives("data-dir"), let folder = recorded.dataDir { options.dataDir = folder }
      data = data ?? recorded.data
      validation = validation ?? recorded.validation
      method = method ?? recorded.method
      seed = seed ?? recorded.seed
    }
    guard !options.model.isEmpty, data != nil else {
      throw ModelError(
        destination?.folder.path ?? "",
        reason: "an earlier build kept no record of the run: give --model and --data again")
    }
  }

  /// - Parameter recorded: the hyperparameters of the run to be resumed; those given on the command line replace them
  private func settings(_ recorded: JSONObject) throws -> Hyperparameters {
    let given = hyperparameters.given
    let rates: Set<String> = ["learning_rate", "learning_rate_multiplier"]
    // The two names are one setting: if one is given, neither is taken from the record.
    let givesRate = given.contains { rates.contains($0.key) }
    let taken = recorded.pairs.filter { !givesRate || !rates.contains($0.key) }
    return try Hyperparameters(
      json: JSONObject(keepingFirst: given + taken), method: method.flatMap { .init(rawValue: $0) } ?? .supervised,
      seed: seed ?? 42)
  }

  private func record(_ settings: Hyperparameters) -> TrainOutput.Record {
    func absolute(_ path: String) -> String { URL(filePath: path).standardizedFileURL.path }
    return TrainOutput.Record(
      model: options.modelURL.path, data: absolute(data ?? ""), validation: validation.map(absolute),
      chatTemplate: template.chatTemplate.isEmpty ? "" : absolute(template.chatTemplate),
      method: settings.method.rawValue, seed: settings.seed, compute: options.arithmetic.compute.rawValue,
      dataDir: absolute(options.dataDir), hyperparameters: JSONObject(keepingFirst: hyperparameters.given))
  }

  /// Reads the data, and reports how rows of other programs' formats were converted. With `--preview`, shows the rows.
  private func read(_ source: any PublishedModel, _ settings: Hyperparameters) throws -> TrainingData {
    let tokenizer = try Tokenizer(source.tokenizer, name: options.modelURL.path)
    let files = try TrainingFiles(
      tokenizer: tokenizer, config: source.config, template: template, modelName: options.modelStem)
    let training = try files.read(data ?? "", method: settings.method)
    let heldOut = try validation.map { try files.read($0, method: settings.method) }
    let read = try TrainingData(
      training.examples, validation: heldOut?.examples,
      mappings: training.mappings.union(heldOut?.mappings ?? []), hyperparameters: settings, model: source.config)
    if preview {
      TrainingPreview(tokenizer: tokenizer, terminal: .output).show(read)
    } else {
      for mapping in read.mappings { writeError(mapping.description) }
    }
    return read
  }

  private func train(_ trainer: Trainer, _ folder: URL) throws -> TrainingLine.Accuracies {
    let flag = InterruptFlag()
    let interrupts = DispatchSource.makeSignalSource(signal: SIGINT)
    signal(SIGINT, SIG_IGN)
    interrupts.setEventHandler { flag.raise() }
    interrupts.resume()
    defer { interrupts.cancel() }
    var line = TrainingLine(steps: trainer.totalSteps, done: trainer.step)
    let isInterrupted: Bool
    do throws(TrainingInterruption) {
      try trainer.run(slices: UnpacedSlices(shouldStop: { flag.isRaised }), onEvent: { line.show($0) })
      isInterrupted = false
    } catch {
      isInterrupted = true
    }
    line.finish()
    try Data(LossPlot(history: trainer.history, title: folder.lastPathComponent).svg.utf8)
      .write(to: folder.appending(path: "loss.svg"), options: .atomic)
    if case .failed(let reason) = trainer.state { throw ModelError("training", reason: reason) }
    if isInterrupted {
      let saved = try trainer.saveCheckpoint { line.show($0) }
      writeError(saved.map { "saved \($0.path); --resume goes on from there" } ?? "stopped before the first step")
      throw ExitCode.interrupted
    }
    return line.accuracies
  }
}

extension HyperparameterError {
  /// "--lora-dropout: 1.5 is not between 0 and 0.99"
  var asFlag: String { "--\(field.replacingOccurrences(of: "_", with: "-")): \(reason)" }
}

extension CommandLine {
  /// Whether an option is given, on the command line or by its variable.
  fileprivate static func gives(_ option: String) -> Bool {
    let given = (try? Graft.commandLine.get().arguments) ?? arguments
    return given.contains { $0 == "--\(option)" || $0.hasPrefix("--\(option)=") }
  }
}

/// Set by Ctrl-C, and read before each slice.
final class InterruptFlag: Sendable {
  private let raised = Atomic<Bool>(false)
  var isRaised: Bool { raised.load(ordering: .relaxed) }
  func raise() { raised.store(true, ordering: .relaxed) }
}
