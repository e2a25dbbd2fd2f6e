import Foundation
import Model
import TestSupport

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
      guard let lora = loras[name] else { return }
      let update = LlamaReference.multiply(lora.b, LlamaReference.multiply(lora.a, input))
      for i in output.indices { output[i] += lora.scale * update[i] }
      if let magnitude = lora.magnitude, let norms = norms[name] {
        for i in output.indices { output[i] *= magnitude[i] / norms[i] }
      }
    }
  }
}
