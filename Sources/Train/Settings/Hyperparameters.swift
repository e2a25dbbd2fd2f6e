public import Formats
import Model

/// What a training run is told beside its data, by the names of the wire and the command line.
///
/// The defaults are QLoRA's findings (Dettmers et al., 2023) for a newcomer: every linear module, r 16, alpha 32,
/// 2e-4, cosine with 3 % warmup; gradients are clipped at 1, as transformers' trainer does.
public struct Hyperparameters: Sendable, Equatable {
  /// What is minimised.
  public enum Method: String, Sendable {
    /// Cross-entropy on the labelled tokens.
    case supervised
    /// Direct preference optimisation (Rafailov et al., 2023) against the base with the adapter off.
    case dpo
  }

  /// How the learning rate falls after the warmup.
  public enum Scheduler: String, CaseIterable, Sendable {
    case constant, linear, cosine
  }

  /// `method.type` of the wire.
  public var method = Method.supervised
  /// Draws order, dropout and initial values.
  public var seed = 42
  /// How often each example is trained on; at least 1.
  public var nEpochs = 3
  /// Optimiser steps; overrides `nEpochs`.
  public var maxSteps: Int?
  /// Rows whose gradients count together; times `gradientAccumulationSteps`, they are a step's rows. Neither says how many
  /// rows go through the model at once.
  public var batchSize = 4
  /// Batches of a step; at least 1.
  public var gradientAccumulationSteps = 1
  /// The highest rate, after the warmup.
  public var learningRate = Hyperparameters.defaultLearningRate
  /// Applies after the warmup.
  public var scheduler = Scheduler.cosine
  /// `nil`: 0.03, and 0 for a constant rate.
  public var warmupRatio: Double?
  /// Decoupled, as AdamW has it.
  public var weightDecay = 0.0
  /// Decay of the first moment, below 1.
  public var adamBeta1 = 0.9
  /// Decay of the second moment, below 1.
  public var adamBeta2 = 0.999
  /// Added to the root of the second moment.
  public var adamEpsilon = 1e-8
  /// 0 does not clip.
  public var maxGradNorm = 1.0
  /// The rank of A and B, unless `rankPattern` gives another.
  public var loraR = 16
  /// The numerator of the scale α/r, or α/√r.
  public var loraAlpha = 32.0
  /// The probability that an input of A is dropped, 0...0.99.
  public var loraDropout = 0.0
  /// The scale is α/√r (Kalajdzievski, 2023).
  public var useRSLoRA = false
  /// Magnitudes are trained apart from directions (Liu et al., 2024).
  public var useDoRA = false
  /// How much faster B learns than A (Hayou et al., 2024); 1 is plain LoRA.
  public var loraPlusRatio = 1.0
  /// As PEFT's configuration has them: a list of names, a pattern, or "all-linear".
  public var targetModules: JSONValue = "all-linear"
  /// Modules that are left out, as PEFT's `exclude_modules`.
  public var excludeModules: JSONValue = .null
  /// A layer or a list of layers, from 0; null for all.
  public var layersToTransform: JSONValue = .null
  /// Ranks of modules by pattern, as PEFT's `rank_pattern`.
  public var rankPattern: JSONValue = [:]
  /// Alphas of modules by pattern, as PEFT's `alpha_pattern`.
  public var alphaPattern: JSONValue = [:]
  /// `nil`: 2,048, or the model's context where that is shorter. Longer rows are cut.
  public var maxSeqLength: Int?
  /// Several rows share one pass, each seeing only itself.
  public var packing = true
  /// Every epoch has a random order of its own; false keeps the data's.
  public var shuffle = true
  /// The share of the rows that is held out, if there is no validation data.
  public var validationSplit = 0.0
  /// Validations without improvement after which training ends; 0 never.
  public var earlyStoppingPatience = 0
  /// Optimiser steps between checkpoints; `nil`: a tenth of the run, at most 100.
  public var checkpointSteps: Int?
  /// An adapter's name (on the command line a folder) to go on from.
  public var initAdapter: String?
  /// DPO's temperature.
  public var beta = 0.1
  /// The names that were set, "auto" aside.
  public private(set) var explicit: Set<String> = []

  /// What `learning_rate_multiplier` multiplies.
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

  /// Optimiser steps between checkpoints.
  public func checkpointInterval(totalSteps: Int) -> Int { checkpointSteps ?? min(max(totalSteps / 10, 1), 100) }
}

/// A hyperparameter that cannot be honoured.
public struct HyperparameterError: Error, Equatable, Sendable, CustomStringConvertible {
  /// As the wire spells it.
  public let field: String
  /// Why it cannot be, in words.
  public let reason: String

  /// - Parameter field: as the wire spells it
  public init(_ field: String, _ reason: String) {
    self.field = field
    self.reason = reason
  }

  /// "lora_dropout: 1.5 is not between 0 and 0.99"
  public var description: String { "\(field): \(reason)" }
}

extension Hyperparameters {
  /// Reads the wire's object. `"auto"` and null stand for the default.
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
    // rank × alpha and the like are checked with the model at hand, where targets are looked up.
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
