public import Formats
import Model

/// The settings of a training run besides its data, under the names of the wire format and the command line.
///
/// The defaults adapt every linear module with a learning rate of 2e-4, as QLoRA does (Dettmers et al., 2023). Rank 16,
/// alpha 32 and a cosine schedule with 3 % warmup are common choices. Gradients are clipped at 1, as by transformers'
/// trainer.
public struct Hyperparameters: Sendable, Equatable {
  /// What is minimised.
  public enum Method: String, Sendable {
    /// Cross-entropy on the labelled tokens.
    case supervised
    /// Direct preference optimisation (Rafailov et al., 2023) against the base with the adapter off.
    case dpo
  }

  /// How the learning rate changes after the warmup.
  public enum Scheduler: String, CaseIterable, Sendable {
    /// It stays, falls linearly to 0, or falls along half a cosine to 0.
    case constant, linear, cosine
  }

  /// The training method; `method.type` on the wire.
  public var method = Method.supervised
  /// The seed of the data's order, of dropout and of the initial values.
  public var seed = 42
  /// How often each example is trained on; at least 1.
  public var nEpochs = 3
  /// The number of optimiser steps; if given, `nEpochs` has no effect.
  public var maxSteps: Int?
  /// The rows of a batch. A step has `batchSize` × `gradientAccumulationSteps` rows. Neither setting decides how many
  /// rows go through the model at once, and so neither changes the memory.
  public var batchSize = 4
  /// Batches of a step; at least 1.
  public var gradientAccumulationSteps = 1
  /// The highest rate, after the warmup.
  public var learningRate = Hyperparameters.defaultLearningRate
  /// The schedule after the warmup.
  public var scheduler = Scheduler.cosine
  /// The share of all steps that the warmup takes; `nil`: 0.03, or 0 for a constant rate.
  public var warmupRatio: Double?
  /// Decoupled, as AdamW has it.
  public var weightDecay = 0.0
  /// Decay of the first moment, below 1.
  public var adamBeta1 = 0.9
  /// Decay of the second moment, below 1.
  public var adamBeta2 = 0.999
  /// Added to the root of the second moment.
  public var adamEpsilon = 1e-8
  /// The maximum norm of the gradients; 0 for no limit.
  public var maxGradNorm = 1.0
  /// The rank of A and B, unless `rankPattern` gives another.
  public var loraR = 16
  /// The numerator of the scale α/r, or α/√r.
  public var loraAlpha = 32.0
  /// The probability that an input of A is dropped, 0...0.99.
  public var loraDropout = 0.0
  /// Whether the scale is α/√r instead of α/r (Kalajdzievski, 2023).
  public var useRSLoRA = false
  /// Whether magnitudes are trained separately from directions (DoRA; Liu et al., 2024).
  public var useDoRA = false
  /// The learning rate of B divided by that of A (LoRA+; Hayou et al., 2024); 1 for plain LoRA.
  public var loraPlusRatio = 1.0
  /// The modules to adapt, in the form of PEFT's configuration: a list of names, a pattern, or "all-linear".
  public var targetModules: JSONValue = "all-linear"
  /// Modules that are left out, as PEFT's `exclude_modules`.
  public var excludeModules: JSONValue = .null
  /// A layer or a list of layers, from 0; null for all.
  public var layersToTransform: JSONValue = .null
  /// Ranks of modules by pattern, as PEFT's `rank_pattern`.
  public var rankPattern: JSONValue = [:]
  /// Alphas of modules by pattern, as PEFT's `alpha_pattern`.
  public var alphaPattern: JSONValue = [:]
  /// The maximum length of a row in tokens; longer rows are cut. `nil`: 2,048, or the model's context if that is
  /// shorter.
  public var maxSeqLength: Int?
  /// Whether several rows share one pass, each attending only to itself.
  public var packing = true
  /// Whether every epoch has its own random order; false keeps the order of the data.
  public var shuffle = true
  /// The share of the examples that is held out for validation, if there is no validation data.
  public var validationSplit = 0.0
  /// Validations without improvement after which training ends; 0 never.
  public var earlyStoppingPatience = 0
  /// Optimiser steps between checkpoints; `nil`: a tenth of the run, at most 100.
  public var checkpointSteps: Int?
  /// The adapter that training continues from: its name, or on the command line its folder.
  public var initAdapter: String?
  /// DPO's β.
  public var beta = 0.1
  /// The names of the fields that were given, except those with the value "auto".
  public private(set) var explicit: Set<String> = []

  /// The learning rate that `learning_rate_multiplier` is relative to.
  public static let defaultLearningRate = 2e-4
  private static let defaultSequenceLength = 2048

  /// The defaults.
  public init() {}

  /// Warmup's share of all steps.
  public var effectiveWarmupRatio: Double { warmupRatio ?? (scheduler == .constant ? 0 : 0.03) }
  /// Examples of an optimiser step.
  public var rowsPerStep: Int { batchSize * gradientAccumulationSteps }

  /// The length that rows are cut to, in tokens.
  public func sequenceLength(_ config: ModelConfig) -> Int {
    min(maxSeqLength ?? Self.defaultSequenceLength, config.contextLength)
  }

  /// Optimiser steps of a run.
  /// - Parameter examples: those of an epoch
  /// - Throws: `HyperparameterError` if there are more than can be counted
  public func totalSteps(examples: Int) throws(HyperparameterError) -> Int {
    if let maxSteps { return maxSteps }
    let (rows, overflow) = examples.multipliedReportingOverflow(by: nEpochs)
    guard !overflow else { throw HyperparameterError("n_epochs", "is too large") }
    return (rows + rowsPerStep - 1) / rowsPerStep
  }

  /// Optimiser steps between checkpoints.
  public func checkpointInterval(totalSteps: Int) -> Int { checkpointSteps ?? min(max(totalSteps / 10, 1), 100) }
}

/// A hyperparameter with a value that cannot be used.
public struct HyperparameterError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The field's name on the wire.
  public let field: String
  /// Why the value cannot be used, in words.
  public let reason: String

  /// - Parameter field: the field's name on the wire
  public init(_ field: String, _ reason: String) {
    self.field = field
    self.reason = reason
  }

  /// "lora_dropout: 1.5 is not between 0 and 0.99"
  public var description: String { "\(field): \(reason)" }
}

extension Hyperparameters {
  /// Reads the wire's object. `"auto"` and null mean the default.
  /// - Throws: `HyperparameterError` naming the field that is unknown, of a wrong type or out of range
  public init(json: JSONObject, method: Method = .supervised, seed: Int? = nil) throws(HyperparameterError) {
    self.init()
    self.method = method
    if let seed { self.seed = seed }
    for (name, value) in json.pairs {
      guard let field = Self.fields.first(where: { $0.name == name }) else {
        throw HyperparameterError(name, "is no hyperparameter")
      }
      if value.isNull || value.string == "auto" { continue }
      try field.read(value, &self)
      explicit.insert(name)
    }
    if explicit.contains("learning_rate"), explicit.contains("learning_rate_multiplier") {
      throw HyperparameterError("learning_rate_multiplier", "cannot go with learning_rate")
    }
    if explicit.contains("beta"), method != .dpo { throw HyperparameterError("beta", "belongs to the method dpo") }
    // Whether rank and alpha are in range is checked with the model, where the targets are looked up.
    let (_, overflow) = batchSize.multipliedReportingOverflow(by: gradientAccumulationSteps)
    if overflow { throw HyperparameterError("gradient_accumulation_steps", "is too large") }
  }

  /// Every field with its value, in a fixed order.
  public var json: JSONObject {
    JSONObject(keepingFirst: Self.fields.compactMap { field in field.write(self).map { (field.name, $0) } })
  }

  /// The wire's names, for options of the command line.
  public static var names: [String] { fields.map(\.name) }
}
