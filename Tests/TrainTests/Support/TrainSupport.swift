import Formats
import Foundation
import Kernels
import Model
import TestSupport
import Testing

@testable import Train

/// A tiny model with rows to train it on.
struct TrainSetting {
  let model: TinyModel
  let base: Base

  /// The default's stacks need no padding, but its NF4 blocks straddle rows.
  init(
    _ shape: TinyShape = TinyShape(
      hidden: 48, intermediate: 72, heads: 6, keyValueHeads: 2, headSize: 8, vocabulary: 90),
    mode: ComputeMode = .f32, unquantized: Set<String>? = nil
  ) throws {
    model = try TinyModel(shape, unquantized: unquantized)
    // Gentler than the tiny model is: saturated softmaxes would leave little but rounding of the gradients.
    for (name, tensor) in model.tensors where name.contains("_proj") || name.contains("lm_head") {
      let factor: Float = name.contains("q_proj") || name.contains("lm_head") ? 0.2 : 0.5
      model.setTensor(name, tensor.values.map { $0 * factor })
    }
    try model.writeTensors()
    base = try model.base(mode)
  }

  func rows(_ lengths: [Int], seed: UInt64 = 5) -> [TrainingExample] {
    var random = TinyRandom(seed: seed)
    return lengths.map { .row(Self.row($0, vocabulary: base.config.vocabularySize, &random)) }
  }

  static func row(_ length: Int, vocabulary: Int, _ random: inout TinyRandom) -> TrainingRow {
    let tokens = (0..<length).map { _ in Int32.random(in: 0..<Int32(vocabulary), using: &random) }
    let labels = tokens.map { Int.random(in: 0..<3, using: &random) == 0 ? TrainingRow.ignored : $0 }
    return TrainingRow(tokens: tokens, labels: labels)
  }

  static func hyperparameters(_ pairs: KeyValuePairs<String, JSONValue>, method: Hyperparameters.Method = .supervised)
    throws -> Hyperparameters
  {
    try Hyperparameters(
      json: JSONObject(keepingFirst: pairs.map { (key: $0.key, value: $0.value) }), method: method)
  }

  func trainer(
    _ examples: [TrainingExample], _ hyperparameters: Hyperparameters, mode: ComputeMode = .f32,
    kernels: KernelSet = .best, threads: Int = 1, folder: URL? = nil, initial: URL? = nil, resume: Bool = false,
    activationMemory: Int = 256 << 20,
    validation: [TrainingExample]? = nil
  ) throws -> Trainer {
    let data = try TrainingData(
      examples, validation: validation, hyperparameters: hyperparameters, model: base.config)
    return try Trainer(
      base: base, compute: Compute(kernels: kernels, pool: ThreadPool(threads: threads), mode: mode),
      data: data,
      hyperparameters: hyperparameters,
      configuration: TrainerConfiguration(
        folder: folder, baseName: "tiny", initialAdapter: initial, activationMemory: activationMemory),
      resume: resume)
  }
}

extension Trainer {
  /// Fills B with noise, without which A has no gradient.
  func stir(seed: UInt64 = 9) {
    var random = TinyRandom(seed: seed)
    for adapted in adapter.projections {
      for i in 0..<adapted.outputs * adapted.rank { adapter.parameter(adapted.b)[i] = random.values(1, scale: 0.2)[0] }
    }
  }

  /// Works up to where the update would begin; the gradients are then whole.
  func runToGradient() {
    let slices = TestSlices { $0.isInterruptible ? .goOn : .stopAtOnce }
    #expect(throws: TrainingInterruption.self) { try run(slices: slices) }
  }

  /// Works until the run ends.
  func run(onEvent: (TrainerEvent) -> Void = { _ in }) {
    do { try run(slices: UnpacedSlices(), onEvent: onEvent) } catch { Issue.record("nothing stops it") }
  }

  /// Works for so many slices at most; an update that began is completed.
  func run(slices count: Int, onEvent: (TrainerEvent) -> Void = { _ in }) {
    try? run(slices: TestSlices { $0.count < count ? .goOn : .stop }, onEvent: onEvent)
  }

  var gradientValues: [Float] { Array(adapter.gradients.buffer) }
  var parameterValues: [Float] { Array(adapter.parameters.buffer) }
  var parameterBits: [UInt32] { adapter.parameters.buffer.map(\.bitPattern) }
}

/// Slices that a test watches and ends.
final class TestSlices: TrainingSlices {
  struct Call {
    /// Slices that were had before.
    var count: Int
    var isInterruptible: Bool
  }

  enum Decision {
    case goOn
    /// Before the next slice that can be left out.
    case stop
    /// Before this slice, though an update may be under way.
    case stopAtOnce
  }

  private(set) var count = 0
  private(set) var isStopping = false
  private let decide: (Call) -> Decision

  /// - Parameter decide: called before each slice
  init(_ decide: @escaping (Call) -> Decision = { _ in .goOn }) { self.decide = decide }

  func slice(interruptible: Bool, _ work: () -> Void) throws(TrainingInterruption) {
    switch decide(Call(count: count, isInterruptible: interruptible)) {
    case .goOn: break
    case .stop: isStopping = true
    case .stopAtOnce: throw TrainingInterruption()
    }
    if isStopping, interruptible { throw TrainingInterruption() }
    count += 1
    work()
  }
}

extension EpochOrder {
  /// Makes an epoch's order.
  /// - Returns: how many slices that took
  func countingSlices(epoch: Int) -> Int {
    var slices = 0
    prepare(epoch: epoch) { work in
      slices += 1
      work()
    }
    return slices
  }
}

extension Microbatch {
  /// All of the examples in one microbatch.
  static func pack(_ examples: [TrainingExample]) -> Microbatch {
    var next = 0
    return pack(&next, of: examples.count, limits: .init(tokens: .max, examples: .max)) { ($0, examples[$0]) }
  }
}

/// ‖a − b‖ / ‖b‖
func relativeDistance(_ a: some Sequence<Float>, _ b: some Sequence<Double>) -> Double {
  var (difference, size) = (0.0, 0.0)
  for (x, y) in zip(a, b) {
    difference += (Double(x) - y) * (Double(x) - y)
    size += y * y
  }
  return (difference / size).squareRoot()
}

func relativeDistance(_ a: [Float], _ b: [Float]) -> Double { relativeDistance(a, b.map(Double.init)) }

func temporaryFolder() throws -> URL {
  let folder = FileManager.default.temporaryDirectory.appending(path: "graft-train-\(UUID().uuidString)")
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  return folder
}
