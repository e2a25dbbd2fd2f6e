import Formats
import Model

extension Hyperparameters {
  /// One field of the wire format: how it is read, checked and written.
  struct Field: Sendable {
    let name: String
    let read: @Sendable (JSONValue, inout Hyperparameters) throws(HyperparameterError) -> Void
    let write: @Sendable (Hyperparameters) -> JSONValue?
  }

  static let fields: [Field] = [
    number("n_epochs", \.nEpochs, 1...1000),
    optionalNumber("max_steps", \.maxSteps, 1...10_000_000),
    number("batch_size", \.batchSize, 1...4096),
    number("gradient_accumulation_steps", \.gradientAccumulationSteps, 1...4096),
    number("learning_rate", \.learningRate, 0...10),
    multiplier,
    scheduler,
    optionalNumber("warmup_ratio", \.warmupRatio, 0...1),
    number("weight_decay", \.weightDecay, 0...100),
    number("adam_beta1", \.adamBeta1, 0...0.99999),
    number("adam_beta2", \.adamBeta2, 0...0.9999999),
    number("adam_epsilon", \.adamEpsilon, 1e-20...1),
    number("max_grad_norm", \.maxGradNorm, 0...1e9),
    number("lora_r", \.loraR, 1...TargetedProjection.maximumRank),
    number("lora_alpha", \.loraAlpha, 1e-3...1e6),
    number("lora_dropout", \.loraDropout, 0...0.99),
    flag("use_rslora", \.useRSLoRA),
    flag("use_dora", \.useDoRA),
    number("loraplus_lr_ratio", \.loraPlusRatio, 1e-3...1e4),
    modules("target_modules", \.targetModules),
    modules("exclude_modules", \.excludeModules),
    layers,
    pattern("rank_pattern", \.rankPattern, 1...TargetedProjection.maximumRank),
    pattern("alpha_pattern", \.alphaPattern, 1e-3...1e6),
    optionalNumber("max_seq_length", \.maxSeqLength, 2...1_048_576),
    flag("packing", \.packing),
    flag("shuffle", \.shuffle),
    number("validation_split", \.validationSplit, 0...0.9),
    number("early_stopping_patience", \.earlyStoppingPatience, 0...1_000_000),
    optionalNumber("checkpoint_steps", \.checkpointSteps, 1...10_000_000),
    initAdapter,
    number("beta", \.beta, 1e-4...100),
  ]

  private typealias Key<Value> = any WritableKeyPath<Hyperparameters, Value> & Sendable

  private static func range<T>(_ range: ClosedRange<T>, _ value: T, _ name: String) throws(HyperparameterError) -> T {
    guard range.contains(value) else {
      throw HyperparameterError(name, "\(value) is not between \(range.lowerBound) and \(range.upperBound)")
    }
    return value
  }

  private static func number<Number: WireNumber>(
    _ name: String, _ key: Key<Number>, _ allowed: ClosedRange<Number>
  ) -> Field {
    number(name, allowed) {
      $0[keyPath: key]
    } set: {
      $0[keyPath: key] = $1
    }
  }

  private static func optionalNumber<Number: WireNumber>(
    _ name: String, _ key: Key<Number?>, _ allowed: ClosedRange<Number>
  ) -> Field {
    number(name, allowed) {
      $0[keyPath: key]
    } set: {
      $0[keyPath: key] = $1
    }
  }

  private static func number<Number: WireNumber>(
    _ name: String, _ allowed: ClosedRange<Number>, get: @Sendable @escaping (Hyperparameters) -> Number?,
    set: @Sendable @escaping (inout Hyperparameters, Number) -> Void
  ) -> Field {
    Field(name: name) { (value, target) throws(HyperparameterError) in
      guard let value = Number.read(value) else { throw HyperparameterError(name, "is not \(Number.described)") }
      set(&target, try range(allowed, value, name))
    } write: {
      get($0)?.written
    }
  }

  private static func flag(_ name: String, _ key: Key<Bool>) -> Field {
    Field(name: name) { (value, target) throws(HyperparameterError) in
      guard let value = value.bool else { throw HyperparameterError(name, "is not a boolean") }
      target[keyPath: key] = value
    } write: {
      .bool($0[keyPath: key])
    }
  }

  /// A string or a list of strings, with the same meaning as in PEFT.
  private static func modules(_ name: String, _ key: Key<JSONValue>) -> Field {
    Field(name: name) { (value, target) throws(HyperparameterError) in
      let isList = value.array?.allSatisfy { $0.string != nil } == true && value.array?.isEmpty == false
      guard isList || value.string?.isEmpty == false else {
        throw HyperparameterError(name, "is neither a string nor a list of strings")
      }
      // PEFT reads a string as a pattern for the whole name, which a short name such as "q_proj" would never match.
      let isName = value.string.map { name in Projection.allCases.contains { $0.shortName == name } } ?? false
      target[keyPath: key] = isName ? [value] : value
    } write: {
      $0[keyPath: key].isNull ? nil : $0[keyPath: key]
    }
  }

  private static func pattern<Number: WireNumber>(
    _ name: String, _ key: Key<JSONValue>, _ allowed: ClosedRange<Number>
  ) -> Field {
    Field(name: name) { (value, target) throws(HyperparameterError) in
      guard let object = value.object else { throw HyperparameterError(name, "is not an object") }
      for (pattern, entry) in object.pairs {
        guard let number = Number.read(entry) else {
          throw HyperparameterError(name, "'\(pattern)' has a value that is not \(Number.described)")
        }
        _ = try range(allowed, number, name)
      }
      target[keyPath: key] = value
    } write: {
      $0[keyPath: key].object?.isEmpty == false ? $0[keyPath: key] : nil
    }
  }

  private static let multiplier = Field(name: "learning_rate_multiplier") {
    (value, target) throws(HyperparameterError) in
    guard let value = value.double else { throw HyperparameterError("learning_rate_multiplier", "is not a number") }
    target.learningRate = try range(0...10_000, value, "learning_rate_multiplier") * defaultLearningRate
  } write: { _ in
    nil
  }

  private static let scheduler = Field(name: "scheduler") { (value, target) throws(HyperparameterError) in
    guard let scheduler = value.string.flatMap(Scheduler.init) else {
      throw HyperparameterError("scheduler", "is not constant, linear or cosine")
    }
    target.scheduler = scheduler
  } write: {
    .string($0.scheduler.rawValue)
  }

  private static let layers = Field(name: "layers_to_transform") { (value, target) throws(HyperparameterError) in
    guard value.integer != nil || value.array?.allSatisfy({ $0.integer != nil }) == true else {
      throw HyperparameterError("layers_to_transform", "is neither an integer nor a list of integers")
    }
    target.layersToTransform = value
  } write: {
    $0.layersToTransform.isNull ? nil : $0.layersToTransform
  }

  private static let initAdapter = Field(name: "init_adapter") { (value, target) throws(HyperparameterError) in
    guard let name = value.string, !name.isEmpty else { throw HyperparameterError("init_adapter", "is not a name") }
    target.initAdapter = name
  } write: {
    $0.initAdapter.map { .string($0) }
  }
}

/// A number type of the wire format.
private protocol WireNumber: Comparable, Sendable {
  static var described: String { get }
  static func read(_ value: JSONValue) -> Self?
  var written: JSONValue { get }
}

extension Int: WireNumber {
  fileprivate static var described: String { "an integer" }
  fileprivate static func read(_ value: JSONValue) -> Int? { value.integer }
  fileprivate var written: JSONValue { .integer(self) }
}

extension Double: WireNumber {
  fileprivate static var described: String { "a number" }
  fileprivate static func read(_ value: JSONValue) -> Double? { value.double }
  fileprivate var written: JSONValue { .number(self) }
}
