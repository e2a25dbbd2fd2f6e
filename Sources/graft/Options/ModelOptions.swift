import Tokenization
import Formats
public import ArgumentParser
import Foundation
public import Kernels
import Model
import Serve

extension ComputeMode: ExpressibleByArgument {}
extension KeyValueLayout.Element: ExpressibleByArgument {}

/// How keys and values are stored, for every command that makes a cache.
struct KeyValueOptions: ParsableArguments {
  @Option(
    help: """
      Keys and values in memory: \(KeyValueLayout.Element.allCases.map(\.rawValue).joined(separator: ", ")) \
      (default: f32 with --compute f32, else int16).
      """)
  var kvType: KeyValueLayout.Element?

  func element(_ mode: ComputeMode) -> KeyValueLayout.Element {
    kvType ?? mode.keyValueElement
  }
}

/// Which instruction set's kernels are used, for every command that computes.
struct KernelOptions: ParsableArguments {
  @Option(
    help: """
      Instruction set: \(InstructionSet.allCases.map(\.rawValue).joined(separator: ", ")) (default: the fastest that \
      this machine has).
      """)
  var kernels: InstructionSet?

  func validate() throws {
    guard let kernels, KernelSet(kernels) == nil else { return }
    throw ValidationError("--kernels \(kernels.rawValue): \(Self.lack(of: kernels))")
  }

  var set: KernelSet { kernels.flatMap(KernelSet.init) ?? .best }

  /// Why this machine cannot use a set.
  /// - Parameter tilesAreRefused: the system does not let this process use the processor's tile registers
  static func lack(of set: InstructionSet, tilesAreRefused: Bool = KernelSet.tileRegistersAreRefused) -> String {
    let available = InstructionSet.allCases.filter { KernelSet($0) != nil }.map(\.rawValue).joined(separator: ", ")
    return (set == .amx && tilesAreRefused ? refusal + "; " : "") + "this machine has only \(available)"
  }

  /// What a user should know of the kernels that are used; `nil` for nothing.
  /// - Parameter tilesAreRefused: the system does not let this process use the processor's tile registers
  func warning(tilesAreRefused: Bool = KernelSet.tileRegistersAreRefused) -> String? {
    guard kernels == nil, tilesAreRefused else { return nil }
    return "\(Self.refusal); kernels: \(set.instructionSet.rawValue)"
  }

  /// Writes `warning` to standard error.
  func writeWarning() {
    if let warning = warning() { writeError(warning) }
  }

  static let refusal = "the system refuses AMX's tile registers"

  /// The set that a variable or the config file names for every command, or else the machine's fastest.
  /// - Throws: `ValidationError` if this machine does not have it, or if there is no such set
  static func set(_ given: (value: String, source: String)?) throws -> KernelSet {
    guard let given else { return .best }
    guard let named = InstructionSet(rawValue: given.value) else {
      throw ValidationError("\(given.source): there are no kernels '\(given.value)'")
    }
    guard let set = KernelSet(named) else { throw ValidationError("\(given.source): \(lack(of: named))") }
    return set
  }
}

extension InstructionSet: ExpressibleByArgument {}

/// How it is computed, for every command that computes.
struct ArithmeticOptions: ParsableArguments {
  @Option(help: "Arithmetic: \(ComputeMode.allCases.map(\.rawValue).joined(separator: ", ")).")
  var compute: ComputeMode = .fast

  @Option(help: "Threads that compute.")
  var threads: Int = ProcessInfo.processInfo.activeProcessorCount

  func validate() throws {
    guard (1...1024).contains(threads) else { throw ValidationError("--threads must be between 1 and 1024") }
  }
}

/// The options of every command that needs the model.
struct ModelOptions: ParsableArguments {
  @Option(help: "The base: a GGUF file, or a folder with config.json, *.safetensors and tokenizer.json.")
  var model: String = ""

  @Option(help: "Where prepared bases and the server's state are kept.")
  var dataDir: String = DataFolder.defaultPath

  @OptionGroup var arithmetic: ArithmeticOptions

  @Option(
    help:
      "Positions that a request may use, prompt and answer together; 0 is what the model was trained for, up to 8192.")
  var context: Int = 0

  @Option(help: "Memory for the key-value cache, in KiB, MiB or GiB.")
  var kvMemory: ByteSize = ByteSize(bytes: min(2 << 30, (MemoryBudget.total ?? .max) / 2))

  @OptionGroup var keyValue: KeyValueOptions

  @OptionGroup var kernel: KernelOptions

  /// Called by every command that needs `--model`.
  func requireModel() throws {
    guard !model.isEmpty else { throw ValidationError("--model is missing: give a GGUF file or a model folder") }
  }

  func validate() throws {
    guard context == 0 || (1...(1 << 22)).contains(context) else {
      throw ValidationError("--context must be a positive number of tokens")
    }
    if let total = MemoryBudget.total, kvMemory.bytes > total {
      throw ValidationError(
        "--kv-memory is \(kvMemory.bytes >> 20) MiB, more than the \(total >> 20) MiB of memory that there are in all")
    }
  }

  var modelURL: URL { URL(filePath: model).standardizedFileURL }

  /// The stem of the model's file or folder, which is the base's name by default.
  var modelStem: String { Formats.modelStem(of: modelURL) }
}

/// A model whose files were read and checked, but whose weights are not prepared yet, which may take minutes.
struct OpenedModel {
  let source: any PublishedModel
  let tokenizer: Tokenizer
  let contextLength: Int
  let options: ModelOptions

  /// - Throws: `ModelError` naming the file, tensor, field or flag that is wrong
  init(_ options: ModelOptions) throws {
    source = try openPublishedModel(at: options.modelURL)
    source.writeNotes(options.modelStem)
    tokenizer = try Tokenizer(source.tokenizer, name: options.modelURL.path)
    contextLength = try options.contextLength(source.config)
    self.options = options
  }
}

extension PublishedModel {
  /// Says what a user should know of how the files are read.
  func writeNotes(_ name: String) {
    for note in notes { writeError("\(name): \(note)") }
  }
}

extension AdapterImport {
  /// Says what a user should know of how an adapter is read.
  static func writeNotes(_ adapter: URL) {
    let adapter = adapter.standardizedFileURL
    for note in notes(adapter) { writeError("\(adapter.lastPathComponent): \(note)") }
  }
}

extension ModelOptions {
  /// `--context`, or its default.
  /// - Throws: `ModelError` if the model cannot have so many positions
  func contextLength(_ config: ModelConfig) throws -> Int {
    let longest = config.contextLength
    let limit = 8192
    // Such a window limits the model's context instead of what attention sees.
    if let window = config.slidingWindow, window == longest, context == 0 ? window < limit : window < context {
      throw ModelError(
        model, "sliding_window",
        reason: "\(window) positions, fewer than the context, is not supported; give --context \(window) or less")
    }
    guard context <= longest else {
      throw ModelError(model, reason: "--context \(context) is more than the \(longest) it was trained for")
    }
    return context == 0 ? min(config.plainContextLength, limit) : context
  }
}

/// A model, opened and ready to compute.
struct LoadedModel {
  let source: any PublishedModel
  let base: Base
  let tokenizer: Tokenizer
  let transformer: Transformer
  let cache: KeyValueCache
  let contextLength: Int

  init(_ options: ModelOptions) throws { try self.init(OpenedModel(options)) }

  init(_ opened: OpenedModel) throws {
    let options = opened.options
    (source, tokenizer, contextLength) = (opened.source, opened.tokenizer, opened.contextLength)
    let pool = ThreadPool(threads: options.arithmetic.threads)
    base = try openBase(source, options, pool)
    transformer = Transformer(
      base: base, compute: Compute(kernels: options.kernel.set, pool: pool, mode: options.arithmetic.compute),
      contextLength: contextLength)
    cache = try KeyValueCache(
      config: base.config, bytes: options.kvMemory.bytes, element: options.keyValue.element(options.arithmetic.compute))
  }
}

/// The prepared base, made with a progress bar if there is none yet.
func openBase(_ source: any PublishedModel, _ options: ModelOptions, _ pool: ThreadPool) throws -> Base {
  let store = BaseStore(dataFolder: URL(filePath: options.dataDir))
  var bar = ProgressBar(title: "Preparing \(options.modelURL.lastPathComponent)")
  let (base, _) = try store.open(source, mode: options.arithmetic.compute, pool: pool) { try bar.update($0) }
  bar.finish()
  return base
}
