public import Formats
public import Foundation
import Kernels
import Model

/// A LoRA adapter that is being trained: f32 parameters, their gradients and AdamW's moments, each in one buffer.
///
/// The A matrices of the projections that read the same input follow one another, so that one product computes them
/// all.
public final class TrainableAdapter {
  /// The part of the buffers that belongs to one projection.
  struct AdaptedProjection {
    let layer: Int
    let projection: Projection
    let rank: Int
    /// α/r, or α/√r.
    let scale: Float
    /// The projection's [outputs, inputs].
    let outputs: Int
    let inputs: Int
    /// Where A, [rank, inputs], begins in the buffers.
    let a: Int
    /// Where B, [outputs, rank], begins.
    let b: Int
    /// Where DoRA's magnitudes, [outputs], begin.
    let magnitude: Int?
    /// The first column of this projection in its stack's inner activations.
    let column: Int
    /// The projection's number among all adapted ones, which is a part of the key of its random numbers.
    let index: Int
  }

  /// The adapted projections of one stack of a layer.
  struct Stack {
    let projections: [AdaptedProjection]
    let rankSum: Int
    /// Where the first A begins.
    let a: Int
    let inputs: Int
  }

  /// [layerCount]: the adapted projections of each stack; `nil` for a stack without any.
  let layers: [PerStack<Stack?>]
  let projections: [AdaptedProjection]
  let targets: [TargetedProjection]
  let count: Int
  let parameters: AlignedBuffer<Float>
  let gradients: AlignedBuffer<Float>
  let mean: AlignedBuffer<Float>
  let variance: AlignedBuffer<Float>
  /// adapter_config.json
  public let configuration: JSONValue
  /// The projections have magnitudes (Liu et al., 2024).
  public let usesDoRA: Bool
  /// DoRA's factors m / ‖W + s·B·A‖ of each projection by `index`, as of the last update.
  var factors: [Int: AlignedBuffer<Float>] = [:]

  /// The first layer that has an adapted projection.
  var lowestLayer: Int { projections.first?.layer ?? 0 }
  /// The number of trained values.
  public var parameterCount: Int { count }

  private init(targets: [TargetedProjection], configuration: JSONValue, usesDoRA: Bool, model: ModelConfig) {
    var (offset, index) = (0, 0)
    var layers: [PerStack<Stack?>] = []
    var projections: [AdaptedProjection] = []
    let byKey = Dictionary(targets.map { (ModuleKey(layer: $0.layer, projection: $0.projection), $0) }) { first, _ in
      first
    }
    for layer in 0..<model.layerCount {
      layers.append(
        PerStack { stack in
          let targets = stack.projections(model).compactMap { byKey[ModuleKey(layer: layer, projection: $0)] }
          guard let first = targets.first else { return nil }
          let inputs = first.projection.shape(model).input
          let start = offset
          let rankSum = targets.reduce(0) { $0 + $1.rank }
          offset += rankSum * inputs
          var (column, built) = (0, [AdaptedProjection]())
          for target in targets {
            let outputs = target.projection.shape(model).output
            let b = offset
            offset += outputs * target.rank
            let magnitude = usesDoRA ? offset : nil
            if usesDoRA { offset += outputs }
            built.append(
              AdaptedProjection(
                layer: layer, projection: target.projection, rank: target.rank, scale: target.scale, outputs: outputs,
                inputs: inputs, a: start + column * inputs, b: b, magnitude: magnitude, column: column, index: index))
            column += target.rank
            index += 1
          }
          projections += built
          return Stack(projections: built, rankSum: rankSum, a: start, inputs: inputs)
        })
    }
    self.targets = targets
    self.layers = layers
    self.projections = projections
    self.configuration = configuration
    self.usesDoRA = usesDoRA
    count = offset
    parameters = AlignedBuffer(count: offset)
    gradients = AlignedBuffer(count: offset)
    mean = AlignedBuffer(count: offset)
    variance = AlignedBuffer(count: offset)
  }

  /// A new adapter as PEFT initialises it: A even within ±1/√inputs (Kaiming with a = √5), B zero. DoRA's magnitudes
  /// are set when the base's norms are known.
  /// - Throws: `HyperparameterError` naming what does not fit the model
  convenience init(_ hyperparameters: Hyperparameters, model: ModelConfig, baseName: String) throws {
    let configuration = hyperparameters.adapterConfiguration(baseName: baseName, model: model)
    let targets = try hyperparameters.targets(model)
    self.init(targets: targets, configuration: configuration, usesDoRA: hyperparameters.useDoRA, model: model)
    draw(seed: hyperparameters.seed)
  }

  /// An adapter that training continues from: its tensors are read, and the moments begin at zero.
  /// - Throws: `ModelError` naming what is wrong with it, `HyperparameterError` where a `lora_…` contradicts it
  convenience init(peft folder: URL, _ hyperparameters: Hyperparameters, model: ModelConfig) throws {
    let configuration = try Self.configuration(of: folder)
    let adapter = try PEFTAdapter.read(folder: folder, config: model)
    try hyperparameters.checkAgreement(with: adapter, configuration, model: model)
    let targets = try TargetedProjection.all(in: configuration, model: model)
    self.init(
      targets: targets, configuration: configuration.replacing("lora_dropout", .number(hyperparameters.loraDropout)),
      usesDoRA: adapter.usesDoRA, model: model)
    copyTensors(of: adapter)
  }

  private func copyTensors(of adapter: PEFTAdapter) {
    let byKey = Dictionary(adapter.updates.map { (ModuleKey(layer: $0.layer, projection: $0.projection), $0) }) {
      a, _ in a
    }
    for adapted in projections {
      guard let source = byKey[ModuleKey(layer: adapted.layer, projection: adapted.projection)] else { continue }
      copy(source.a, to: adapted.a)
      copy(source.b, to: adapted.b)
      if let magnitude = adapted.magnitude, let values = source.magnitude { copy(values, to: magnitude) }
    }
  }

  /// Checks whether training can continue from an adapter with these settings, without allocating its buffers.
  /// - Throws: `ModelError` or `HyperparameterError` naming what is wrong
  public static func check(peft folder: URL, _ hyperparameters: Hyperparameters, model: ModelConfig) throws {
    let adapter = try PEFTAdapter.read(folder: folder, config: model)
    try hyperparameters.checkAgreement(with: adapter, try configuration(of: folder), model: model)
  }

  /// A PEFT folder's adapter_config.json.
  /// - Throws: `ModelError` if it cannot be read
  static func configuration(of folder: URL) throws -> JSONValue {
    let url = folder.appending(path: PEFTFolder.configurationFile)
    guard let text = try? Data(contentsOf: url), text.count <= 4 << 20 else {
      throw ModelError(url.path, reason: "cannot be read")
    }
    return try JSONValue.parse(text, subject: PEFTFolder.configurationFile)
  }

  private struct ModuleKey: Hashable {
    let layer: Int
    let projection: Projection
  }

  private func copy(_ values: [Float], to offset: Int) {
    values.withUnsafeBufferPointer { source in
      guard let start = source.baseAddress else { return }
      (parameters.pointer + offset).update(from: start, count: values.count)
    }
  }

  /// Draws the random values of A, and sets everything else to zero.
  private func draw(seed: Int) {
    for adapted in projections {
      let key = CounterKey(
        UInt64(bitPattern: Int64(seed)), EpochOrder.Stream.initialization.rawValue, UInt64(adapted.index))
      let bound = 1 / Float(adapted.inputs).squareRoot()
      for i in 0..<adapted.rank * adapted.inputs {
        let even = Float(key[UInt32(truncatingIfNeeded: i)] >> 8) * 0x1p-23 - 1
        parameters[adapted.a + i] = even * bound
      }
    }
  }

  /// Starts again as a new adapter, in the same memory.
  func restart(seed: Int) {
    clear()
    draw(seed: seed)
  }

  /// Starts again with the values of the PEFT folder that it was made from.
  /// - Throws: `ModelError` naming the file that cannot be read
  func restart(peft folder: URL, model: ModelConfig) throws {
    let adapter = try PEFTAdapter.read(folder: folder, config: model)
    clear()
    copyTensors(of: adapter)
  }

  private func clear() {
    for buffer in [parameters, mean, variance] { buffer.pointer.update(repeating: 0, count: count) }
  }

  func parameter(_ offset: Int) -> UnsafeMutablePointer<Float> { parameters.pointer + offset }
  func gradient(_ offset: Int) -> UnsafeMutablePointer<Float> { gradients.pointer + offset }

  /// Every tensor by PEFT's name, with its shape and where it begins in the buffers.
  var tensors: [(name: String, shape: [Int], offset: Int)] {
    projections.flatMap { adapted in
      func name(_ part: PEFTTensorName.Part) -> String {
        PEFTTensorName.name(adapted.projection, layer: adapted.layer, part)
      }
      var list = [
        (name: name(.a), shape: [adapted.rank, adapted.inputs], offset: adapted.a),
        (name: name(.b), shape: [adapted.outputs, adapted.rank], offset: adapted.b),
      ]
      if let magnitude = adapted.magnitude {
        list.append((name: name(.magnitude), shape: [adapted.outputs], offset: magnitude))
      }
      return list
    }
  }
}
