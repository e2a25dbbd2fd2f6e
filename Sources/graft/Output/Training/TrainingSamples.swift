import Formats
import Foundation
import Kernels
import Model
import Serve
import Tokenization
import Train

/// What the model answers to some rows' prompts without and with the trained adapter.
struct TrainingSamples {
  let base: Base
  let compute: Compute
  let tokenizer: Tokenizer
  let endTokens: Set<Int32>

  private static let promptLimit = 512
  private static let answerLimit = 40
  private static let cacheBytes = 256 << 20

  /// An answer before training and after it.
  struct Sample: Equatable {
    let prompt: String
    let before: String
    let after: String
  }

  /// - Parameters:
  ///   - count: how many rows, the held out ones first
  ///   - initial: the adapter that training began from; `nil` for the base alone
  ///   - trained: the run's adapter
  /// - Throws: `ModelError` if an adapter cannot be read, or the cache does not fit into the memory
  func make(_ count: Int, of data: TrainingData, initial: URL?, trained: URL) throws -> [Sample] {
    let prompts = (data.validation + data.training).lazy.compactMap { Self.prompt($0.rows[0]) }.prefix(count)
    if prompts.isEmpty { return [] }
    func adapter(_ folder: URL) throws -> AdapterSet {
      AdapterSet([(try Adapter(peft: folder, base: base, mode: compute.mode), 1)])
    }
    let (before, after) = (try initial.map(adapter) ?? .none, try adapter(trained))
    let length = Self.promptLimit + Self.answerLimit
    let engine = Engine(
      transformer: Transformer(base: base, compute: compute, contextLength: length),
      cache: try KeyValueCache(config: base.config, bytes: Self.cacheBytes, element: compute.mode.keyValueElement),
      tokenizer: tokenizer)
    engine.start()
    defer { engine.stop() }
    return try prompts.map { prompt in
      Sample(
        prompt: tokenizer.decode(prompt, skippingSpecialTokens: true), before: try answer(prompt, before, engine),
        after: try answer(prompt, after, engine))
    }
  }

  /// The tokens before the first one that is learnt; of a row that is learnt from its beginning, some of its tokens.
  static func prompt(_ row: TrainingRow) -> [Int32]? {
    guard let learnt = row.labels.indices.dropFirst().first(where: { row.labels[$0] != TrainingRow.ignored }) else {
      return nil
    }
    let length = learnt > 1 ? learnt : min(8, row.tokens.count / 2)
    return length > 0 && length <= promptLimit ? Array(row.tokens.prefix(length)) : nil
  }

  private func answer(_ prompt: [Int32], _ adapters: AdapterSet, _ engine: Engine) throws -> String {
    let sampling = SamplingParameters(temperature: 0, topP: 1, seed: 0)
    let request = GenerationRequest(
      prompt: prompt, adapters: adapters,
      options: .init(maxTokens: Self.answerLimit, sampling: sampling, endTokens: endTokens))
    do throws(EngineError) { return try engine.answer(to: request) } catch {
      throw ModelError("sample", reason: error.advice)
    }
  }
}

extension [TrainingSamples.Sample] {
  /// The samples under each other, each text on one line that fits the terminal.
  func text(for terminal: Terminal) -> String {
    // Of a prompt the end is shown, where a chat has its question; of an answer the beginning.
    func line(_ title: String, _ text: String, _ style: Terminal.Style?, showsEnd: Bool = false) -> String {
      let flat = Terminal.harmless(text).split(separator: " ").joined(separator: " ")
      let room = Swift.max(terminal.width - 8, 20)
      let cut = showsEnd ? "…" + String(flat.suffix(room - 1)) : String(flat.prefix(room - 1)) + "…"
      return title + terminal.styled(flat.count > room ? cut : flat, style)
    }
    return flatMap { sample in
      [
        line("prompt  ", sample.prompt, .faint, showsEnd: true), line("before  ", sample.before, nil),
        line("after   ", sample.after, .accent),
      ]
    }.joined(separator: "\n")
  }
}
