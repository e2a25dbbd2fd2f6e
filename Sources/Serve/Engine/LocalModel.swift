internal import Dispatch
public import Formats
public import Foundation
public import Kernels
public import Model
public import Tokenization

/// A model with an engine, for programs that use Graft as a library instead of a server. Answers to several requests are
/// computed in common passes, whichever adapters each uses.
///
/// ```swift
/// let model = try LocalModel(at: URL(filePath: "models/SmolLM2-135M-Instruct.Q4_1.gguf"))
/// let pirate = try model.adapter(at: URL(filePath: "examples/adapters/pirate"))
/// for try await text in try model.chat("Who are you?", adapters: AdapterSet([(pirate, 1)])) { print(text) }
/// ```
public final class LocalModel: Sendable {
  /// How a model is computed.
  public struct Settings: Sendable {
    /// The arithmetic of passes.
    public var mode: ComputeMode
    /// How many threads compute.
    public var threads: Int
    /// Maximum positions of a request, prompt and answer together. A model with a shorter context allows fewer.
    public var contextLength: Int
    /// Memory of the key-value cache, in bytes.
    public var cacheBytes: Int
    /// The instruction set that computes.
    public var kernels: KernelSet
    /// The folder that keeps the prepared base, in `bases`. Servers and other programs can use it at the same time.
    public var dataFolder: URL

    /// The defaults are those of the commands, with a smaller cache.
    /// - Parameters: as the properties
    public init(
      mode: ComputeMode = .fast, threads: Int = ProcessInfo.processInfo.activeProcessorCount,
      contextLength: Int = 8192, cacheBytes: Int = 512 << 20, kernels: KernelSet = .best,
      dataFolder: URL = URL(filePath: DataFolder.defaultPath)
    ) {
      self.mode = mode
      self.threads = threads
      self.contextLength = contextLength
      self.cacheBytes = cacheBytes
      self.kernels = kernels
      self.dataFolder = dataFolder
    }
  }

  /// The model's weights, quantised to NF4.
  public let base: Base
  /// The model's tokenizer.
  public let tokenizer: Tokenizer
  /// How chats become prompts, or why the model has no chats.
  public let chatFormat: Result<ChatFormat, ModelError>
  /// Generates the answers. Requests that this type has no method for can be given to it.
  public let engine: Engine
  private let mode: ComputeMode

  /// Opens a model. The first time, its weights are prepared, which takes seconds or minutes by its size.
  /// - Parameters:
  ///   - url: a GGUF file, or a folder with config.json, *.safetensors and tokenizer.json
  ///   - progress: the share prepared, 0 ... 1; not called if nothing is to be done; may throw to stop
  /// - Throws: `ModelError` that names the file, tensor or field that is wrong, or what cannot be written
  public init(
    at url: URL, settings: Settings = Settings(), progress: @escaping (Double) throws -> Void = { _ in }
  ) throws {
    let source = try openPublishedModel(at: url)
    let tokenizer = try Tokenizer(source.tokenizer, name: url.path)
    let (mode, pool) = (settings.mode, ThreadPool(threads: settings.threads))
    let store = BaseStore(dataFolder: settings.dataFolder)
    let base = try store.open(source, mode: mode, pool: pool, progress: progress).base
    let transformer = Transformer(
      base: base, compute: Compute(kernels: settings.kernels, pool: pool, mode: mode),
      contextLength: min(settings.contextLength, base.config.plainContextLength))
    let cache = try KeyValueCache(config: base.config, bytes: settings.cacheBytes, element: mode.keyValueElement)
    (self.base, self.tokenizer, self.mode) = (base, tokenizer, mode)
    chatFormat = Result { () throws(ModelError) in try ChatFormat(tokenizer, name: url.lastPathComponent) }
    engine = Engine(transformer: transformer, cache: cache, tokenizer: tokenizer)
    engine.start()
  }

  deinit {
    // The last reference may be released on the engine's own thread, which cannot wait for its own end.
    DispatchQueue.global().async { [engine] in engine.stop() }
  }

  /// Reads an adapter into memory, to be used in any number of requests.
  /// - Parameter folder: an adapter as PEFT writes it, or in one of the other forms that a server loads
  /// - Throws: `ModelError` that names the field or tensor that is wrong, or does not fit the base
  public func adapter(at folder: URL) throws -> Adapter { try Adapter.read(folder, base: base, mode: mode) }

  /// Answers a message of a user.
  /// - Parameters:
  ///   - adapters: what is applied beside the base
  ///   - maxTokens: maximum tokens of the answer
  ///   - sampling: how tokens are drawn; by default the most probable one
  /// - Returns: the answer's texts; the stream throws `EngineError`
  /// - Throws: `ModelError` if the model has no chat template, or `ChatFormatError` if the template refuses the chat
  public func chat(
    _ message: String, adapters: AdapterSet = .none, maxTokens: Int = 256,
    sampling: SamplingParameters = SamplingParameters(temperature: 0, seed: 0)
  ) throws -> TextStream {
    let chat = Conversation(messages: [ChatMessage(role: "user", content: .string(message)).json])
    return try self.chat(chat, adapters: adapters, maxTokens: maxTokens, sampling: sampling)
  }

  /// Answers a chat of any number of messages.
  /// - Parameters:
  ///   - adapters: what is applied beside the base
  ///   - maxTokens: maximum tokens of the answer
  ///   - sampling: how tokens are drawn; by default the most probable one
  /// - Returns: the answer's texts; the stream throws `EngineError`
  /// - Throws: `ModelError` if the model has no chat template, or `ChatFormatError` if the template refuses the chat
  public func chat(
    _ chat: Conversation, adapters: AdapterSet = .none, maxTokens: Int = 256,
    sampling: SamplingParameters = SamplingParameters(temperature: 0, seed: 0)
  ) throws -> TextStream {
    let format = try chatFormat.get()
    let options = GenerationOptions(maxTokens: maxTokens, sampling: sampling, endTokens: format.endTokens)
    return stream(GenerationRequest(prompt: try format.tokens(chat), adapters: adapters, options: options))
  }

  /// Continues a text.
  /// - Parameters:
  ///   - prompt: special tokens in the text count as such
  ///   - adapters: what is applied beside the base
  ///   - maxTokens: maximum tokens of the continuation
  ///   - sampling: how tokens are drawn; by default the most probable one
  /// - Returns: the continuation's texts; the stream throws `EngineError`, also for an empty prompt
  public func complete(
    _ prompt: String, adapters: AdapterSet = .none, maxTokens: Int = 256,
    sampling: SamplingParameters = SamplingParameters(temperature: 0, seed: 0)
  ) -> TextStream {
    let options = GenerationOptions(maxTokens: maxTokens, sampling: sampling)
    let tokens = tokenizer.encode(prompt, parsingSpecialTokens: true)
    return stream(GenerationRequest(prompt: tokens, adapters: adapters, options: options))
  }

  /// The stream holds the model, so that a program need not keep it for that.
  private func stream(_ request: GenerationRequest) -> TextStream {
    TextStream(request, engine: engine, owner: self)
  }
}
