import ArgumentParser
import Dispatch
import Formats
import Foundation
import Kernels
import Model
import Tokenization
import Train

struct SweepCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sweep",
    abstract: "Trains an adapter with each combination of some hyperparameters, and compares them.",
    discussion: """
      --lora-r, --lora-alpha, --lora-dropout and --learning-rate take several values with commas between, and \
      --target-modules several with semicolons between, as in --target-modules 'q_proj,v_proj;all-linear'. All other \
      options are as those of 'graft train'. Without --validation, a tenth of the rows is held out.

      --output gets a folder for each run, sweep.json and sweep.svg. Ctrl-C ends the sweep with the runs that are done.
      """)

  @OptionGroup(title: "Model") var options: ModelOptions

  @Option(help: "The training data, a JSONL file.")
  var data: String = ""

  @Option(help: "Validation data of the same form.")
  var validation: String?

  @Option(help: "The folder of the runs: new or empty.")
  var output: String = ""

  @OptionGroup var template: ChatTemplateOptions

  @Option(help: "supervised or dpo.")
  var method: String = "supervised"

  @Option(help: "Draws order, dropout and initial values, the same for all runs.")
  var seed: Int = 42

  @OptionGroup(title: "Hyperparameters") var hyperparameters: HyperparameterOptions

  func validate() throws {
    try options.requireModel()
    guard !data.isEmpty else { throw ValidationError("--data is missing: a JSONL file") }
    guard !output.isEmpty else { throw ValidationError("--output is missing: the folder of the runs") }
    guard Hyperparameters.Method(rawValue: method) != nil else {
      throw ValidationError("--method must be supervised or dpo")
    }
    do {
      for run in try grid().runs { _ = try settings(run) }
    } catch let error as HyperparameterError {
      throw ValidationError(error.asFlag)
    } catch let error as ModelError {
      throw ValidationError("\(error)")
    }
  }

  private func grid() throws -> SweepGrid {
    var given = hyperparameters.typed
    if validation == nil, !given.contains(where: { $0.name == "validation_split" }) {
      given.append(("validation_split", "0.1"))
    }
    return try SweepGrid(given)
  }

  private func settings(_ run: [SweepGrid.Setting]) throws -> Hyperparameters {
    try Hyperparameters(
      json: JSONObject(keepingFirst: run.map { ($0.name, HyperparameterOptions.value($0.name, $0.text)) }),
      method: .init(rawValue: method) ?? .supervised, seed: seed)
  }

  func run() throws {
    let folder = URL(filePath: output).standardizedFileURL
    try TrainOutput(folder: folder).check(resume: false, overwrite: false)
    let grid = try grid()
    let source = try openPublishedModel(at: options.modelURL)
    let rows = try TrainingFiles(
      tokenizer: Tokenizer(source.tokenizer, name: options.modelURL.path), config: source.config,
      template: template, modelName: options.modelStem)
    let method = Hyperparameters.Method(rawValue: method) ?? .supervised
    let training = try rows.read(data, method: method)
    let heldOut = try validation.map { try rows.read($0, method: method) }
    options.kernel.writeWarning()
    let pool = ThreadPool(threads: options.arithmetic.threads)
    let base = try openBase(source, options, pool)
    let compute = Compute(kernels: options.kernel.set, pool: pool, mode: options.arithmetic.compute)
    let flag = InterruptFlag()
    let interrupts = DispatchSource.makeSignalSource(signal: SIGINT)
    signal(SIGINT, SIG_IGN)
    interrupts.setEventHandler { flag.raise() }
    interrupts.resume()
    defer { interrupts.cancel() }

    var results: [SweepResult] = []
    var initials: Set<URL> = []
    for (number, run) in grid.runs.enumerated() where !flag.isRaised {
      let settings = try settings(run)
      let read = try TrainingData(
        training.examples, validation: heldOut?.examples, hyperparameters: settings, model: source.config)
      let values = run.prefix(grid.axes.count).map(\.text)
      let title = zip(grid.axes.map(\.name), values).map { "\($0) \($1)" }.joined(separator: ", ")
      writeError("run \(number + 1) of \(grid.runs.count): \(title)")
      let name = "run-\(number + 1)"
      let initial = settings.initAdapter.map { URL(filePath: $0) }
      if let initial, initials.insert(initial).inserted { AdapterImport.writeNotes(initial) }
      let result = try AdapterImport.withPEFTFolder(ifAny: initial, config: base.config) { initial in
        let trainer = try Trainer(
          base: base, compute: compute, data: read, hyperparameters: settings,
          configuration: TrainerConfiguration(
            folder: folder.appending(path: name), baseName: options.modelStem, initialAdapter: initial,
            checkpointsKept: 1))
        return try Self.train(trainer, flag, values: values, folder: name)
      }
      if let result { results.append(result) }
      try Self.write(SweepReport(axes: grid.axes.map(\.name), results: results), to: folder)
    }
    let report = SweepReport(axes: grid.axes.map(\.name), results: results)
    if !results.isEmpty { print(report.table(for: .output)) }
    if flag.isRaised { throw ExitCode.interrupted }
    guard let best = report.results.first else { return }
    let commands = TrainingSummary.commands(
      folder: folder.appending(path: best.folder), model: options.model, settings: [])
    writeError("\nthe best is \(best.folder); plot: \(folder.path)/sweep.svg\n" + commands.joined(separator: "\n"))
  }

  /// - Returns: `nil` if the run was interrupted
  private static func train(
    _ trainer: Trainer, _ flag: InterruptFlag, values: [String], folder: String
  ) throws -> SweepResult? {
    var line = TrainingLine(steps: trainer.totalSteps, done: 0)
    var best: ValidationMetrics?
    let began = ContinuousClock.now
    do throws(TrainingInterruption) {
      try trainer.run(slices: UnpacedSlices(shouldStop: { flag.isRaised })) { event in
        line.show(event)
        if case .validation(let metrics) = event, metrics.isBest { best = metrics }
      }
    } catch { return nil }
    line.finish()
    if case .failed(let reason) = trainer.state { throw ModelError(folder, reason: reason) }
    return SweepResult(
      values: values, trainLoss: trainer.losses.last ?? 0, validationLoss: best?.loss, accuracy: best?.accuracy,
      seconds: began.duration(to: .now) / .seconds(1), parameters: trainer.adapter.parameterCount, folder: folder)
  }

  private static func write(_ report: SweepReport, to folder: URL) throws {
    try AtomicFile.write(report.json.encoded, to: folder.appending(path: "sweep.json"))
    try AtomicFile.write(Array(report.svg.utf8), to: folder.appending(path: "sweep.svg"))
  }
}

/// Reads files of training rows with a model's tokenizer and chat template.
struct TrainingFiles {
  let tokenizer: Tokenizer
  let config: ModelConfig
  private let chat: Result<ChatFormat, ModelError>

  /// - Throws: `ModelError` for a template that cannot be read
  init(tokenizer: Tokenizer, config: ModelConfig, template: ChatTemplateOptions, modelName: String) throws {
    (self.tokenizer, self.config) = (tokenizer, config)
    chat = try template.format(tokenizer, name: modelName)
  }

  /// - Throws: an error that counts the lines that are wrong and names the first of them
  func read(_ path: String, method: Hyperparameters.Method) throws -> JSONLRows.Reading {
    try JSONLRows(
      file: URL(filePath: path), tokenizer: tokenizer, endToken: config.eosTokens.first, chat: chat, method: method
    ).read()
  }
}
