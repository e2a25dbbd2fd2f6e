import Formats
import Foundation
import Model
import TestSupport

@testable import Train

/// The loss of a Llama model with a LoRA adapter in double precision, as a function of the adapter's parameters: what
/// gradients are differentiated from.
struct TrainReference {
  struct Lora {
    var a: [Double]
    var b: [Double]
    var magnitude: [Double]?
    var rank: Int
    var scale: Double
  }

  private let model: LlamaReference
  /// By full module name.
  var loras: [String: Lora] = [:]
  /// DoRA's norms, which the gradient does not pass; `nil` computes them.
  var fixedNorms: [String: [Double]]?

  init(_ model: TinyModel, config: ModelConfig) throws { self.model = try LlamaReference(model, config: config) }

  /// A trainer's adapter on its setting's model.
  init(_ setting: TrainSetting, _ trainer: Trainer) throws {
    try self.init(setting.model, config: setting.base.config)
    for adapted in trainer.adapter.projections {
      func values(_ offset: Int, _ count: Int) -> [Double] {
        (0..<count).map { Double(trainer.adapter.parameter(offset)[$0]) }
      }
      loras[adapted.projection.fullName(layer: adapted.layer)] = Lora(
        a: values(adapted.a, adapted.rank * adapted.inputs), b: values(adapted.b, adapted.outputs * adapted.rank),
        magnitude: adapted.magnitude.map { values($0, adapted.outputs) }, rank: adapted.rank,
        scale: Double(adapted.scale))
    }
  }

  /// Σ −log p(label) of a row.
  func loss(_ tokens: [Int32], _ labels: [Int32], adapted: Bool = true) -> Double {
    let logits = logits(tokens, adapted: adapted)
    var total = 0.0
    for i in 1..<tokens.count where labels[i] != -100 {
      let row = logits[i - 1]
      let highest = row.max() ?? 0
      total += highest + log(row.reduce(0) { $0 + exp($1 - highest) }) - row[Int(labels[i])]
    }
    return total
  }

  /// ‖W + s·B·A‖ by rows, of every module.
  func norms() -> [String: [Double]] {
    Dictionary(
      uniqueKeysWithValues: loras.map { name, lora in
        let w = model.weights[name + ".weight"] ?? []
        let outputs = lora.b.count / lora.rank
        let inputs = lora.a.count / lora.rank
        return (
          name,
          (0..<outputs).map { row in
            var sum = 0.0
            for column in 0..<inputs {
              var value = w[row * inputs + column]
              for i in 0..<lora.rank { value += lora.scale * lora.b[row * lora.rank + i] * lora.a[i * inputs + column] }
              sum += value * value
            }
            return sum.squareRoot()
          }
        )
      })
  }

  private func logits(_ tokens: [Int32], adapted: Bool) -> [[Double]] {
    guard adapted else { return model.logits(tokens) }
    let norms = loras.values.contains { $0.magnitude != nil } ? fixedNorms ?? norms() : [:]
    return model.logits(tokens) { module, layer, input, output in
      let name = module.fullName(layer: layer)
      adapt(name, input, norms: norms[name], &output)
    }
  }

  /// A module's outputs for an input, of which its adapter sees what is left of it.
  func linear(_ name: String, _ input: [Double], left: [Double]) -> [Double] {
    var output = LlamaReference.multiply(model.weights[name + ".weight"] ?? [], input)
    adapt(name, left, norms: fixedNorms?[name], &output)
    return output
  }

  private func adapt(_ name: String, _ input: [Double], norms: [Double]?, _ output: inout [Double]) {
    guard let lora = loras[name] else { return }
    let update = LlamaReference.multiply(lora.b, LlamaReference.multiply(lora.a, input))
    for i in output.indices { output[i] += lora.scale * update[i] }
    if let magnitude = lora.magnitude, let norms {
      for i in output.indices { output[i] *= magnitude[i] / norms[i] }
    }
  }
}

extension TrainReference.Lora {
  fileprivate var forcedMagnitude: [Double] {
    get { magnitude ?? [] }
    set { magnitude = newValue }
  }
}

extension TrainableAdapter {
  /// A adapted's tensors: where the reference has them, and where they begin in the buffers.
  func parts(of adapted: AdaptedProjection) -> [(
    path: WritableKeyPath<TrainReference.Lora, [Double]>, offset: Int, count: Int
  )] {
    let magnitude = adapted.magnitude.map { (path: \TrainReference.Lora.forcedMagnitude, $0, adapted.outputs) }
    return [(\.a, adapted.a, adapted.rank * adapted.inputs), (\.b, adapted.b, adapted.outputs * adapted.rank)]
      + (magnitude.map { [$0] } ?? [])
  }
}
