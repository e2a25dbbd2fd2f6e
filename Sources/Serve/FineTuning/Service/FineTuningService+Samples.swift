import Formats
import Foundation
import Logging
import Model
import Tokenization
import Train

/// Answers of a job's checkpoints to the prompts that its client gave, beside the base's. They are generated as background
/// requests, so others do not wait for them, and kept with the checkpoint and in an event.
extension FineTuningService {
  /// Maximum prompts of a job.
  static let maximumSamplePrompts = 8
  /// Maximum characters of a prompt.
  static let maximumSamplePromptLength = 4000
  /// Maximum tokens of an answer.
  private static let sampleTokens = 48

  /// Generates the samples that are missing, because the last process ended before it had them. On the queue.
  func makeMissingSamples() {
    do {
      for checkpoint in try database.checkpointsWithoutSamples() { makeSamples(of: checkpoint) }
    } catch {
      logger.warning("missing samples cannot be found", metadata: ["error": .string("\(error)")])
    }
  }

  /// Generates the samples of a checkpoint that requests can name already, if its job has prompts. On the queue.
  func makeSamples(of checkpoint: FineTuningCheckpoint) {
    guard let job = try? self.job(checkpoint.job), !job.samplePrompts.isEmpty else { return }
    sampling.async { [self] in
      do {
        let known = try database.newestSamples(of: job.id)
        let samples = try samples(job.samplePrompts, model: checkpoint.model, known)
        queue.sync { record(samples, of: checkpoint) }
      } catch EngineError.shuttingDown {
        // The next process makes them.
      } catch let error as AdapterError where error.kind == .unknownName {
        // The checkpoint was deleted meanwhile.
      } catch {
        let reason = (error as? EngineError)?.message ?? "\(error)"
        queue.sync { record([], of: checkpoint, problem: reason) }
      }
    }
  }

  /// On the sampling queue.
  /// - Parameter known: samples of an earlier checkpoint, whose answers of the base are used again
  private func samples(_ prompts: [String], model: String, _ known: JSONValue?) throws -> [JSONValue] {
    let checkpoint = try environment.adapters.acquireWaiting([AdapterReference(name: model, version: nil)])
    let adapters = AdapterSet(checkpoint.map { ($0, 1) })
    return try prompts.enumerated().map { index, prompt in
      let earlier = known?.array.flatMap { index < $0.count ? $0[index].object : nil }
      let base = try earlier?["base"]?.string ?? sample(prompt, .none, label: "base")
      let answer = try sample(prompt, adapters, label: model)
      return ["prompt": .string(prompt), "base": .string(base), "answer": .string(answer)]
    }
  }

  /// The answer to a chat's message or, if the model has no chats, what continues a text.
  private func sample(_ prompt: String, _ adapters: AdapterSet, label: String) throws -> String {
    let tokens: [Int32]
    var endTokens: Set<Int32> = []
    if case .success(let format) = environment.chat {
      let chat = Conversation(messages: [ChatMessage(role: "user", content: .string(prompt)).json])
      tokens = try format.tokens(chat)
      endTokens = format.endTokens
    } else {
      tokens = environment.tokenizer.encode(prompt, parsingSpecialTokens: true)
    }
    let sampling = SamplingParameters(temperature: 0, seed: 0)
    let options = GenerationOptions(maxTokens: Self.sampleTokens, sampling: sampling, endTokens: endTokens)
    let request = GenerationRequest(prompt: tokens, adapters: adapters, options: options, label: label)
    while true {
      do throws(EngineError) { return try environment.engine.answer(to: request, client: .samples) } catch {
        guard case .overloaded(_, let seconds) = error else { throw error }
        Thread.sleep(forTimeInterval: Double(min(seconds, 10)))
      }
    }
  }

  /// On the queue.
  /// - Parameter problem: why there are no samples
  private func record(_ samples: [JSONValue], of checkpoint: FineTuningCheckpoint, problem: String? = nil) {
    guard let job = try? self.job(checkpoint.job) else { return }
    let step = JSONValue.integer(checkpoint.step)
    let report =
      if let problem {
        event("The checkpoint of step \(checkpoint.step) has no samples: \(problem)", level: .warn)
      } else {
        event(
          "Samples of step \(checkpoint.step)",
          data: ["step": step, "model": .string(checkpoint.model), "samples": .array(samples)])
      }
    do {
      try database.keep(samples, of: checkpoint, event: report)
      notify(job.id)
    } catch {
      logger.warning("samples cannot be kept", metadata: ["job": .string(job.id), "error": .string("\(error)")])
    }
  }
}
