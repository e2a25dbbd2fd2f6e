import Foundation
import Kernels
import Model
import TestSupport

/// The loss of a Llama model with a LoRA adapter written down plainly, in double precision, as a function of the
/// adapter's parameters: what gradients are differentiated from.
struct TrainReference {
  struct Lora {
    var a: [Double]
    var b: [Double]
    var magnitude: [Double]?
    var rank: Int
    var scale: Double
  }

  let config: ModelConfig
  private var weights: [String: [Double]] = [:]
  /// By full module name.
  var loras: [String: Lora] = [:]
  /// DoRA's norms, which the gradient does not pass; `nil` computes them.
  var fixedNorms: [String: [Double]]?

  init(_ model: TinyModel, config: ModelConfig) throws {
    self.config = config
    for (name, tensor) in model.tensors {
      var values = tensor.values
      if name.contains("_proj") {
        let (packed, absmax) = try NF4.quantize(values)
        values = NF4.dequantize(packed: packed, absmax: absmax, count: values.count)
      }
      weights[name] = values.map(Double.init)
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
        let w = weights[name + ".weight"] ?? []
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
    let embedding = weights["model.embed_tokens.weight"] ?? []
    let size = config.hiddenSize
    let norms = loras.values.contains { $0.magnitude != nil } ? fixedNorms ?? norms() : [:]
    var x = tokens.map { Array(embedding[Int($0) * size..<(Int($0) + 1) * size]) }
    for layer in 0..<config.layerCount {
      let prefix = "model.layers.\(layer)."
      func linear(_ module: LinearModule, _ input: [Double]) -> [Double] {
        let name = module.fullName(layer: layer)
        var y = multiply(weights[name + ".weight"] ?? [], input)
        guard adapted, let lora = loras[name] else { return y }
        let update = multiply(lora.b, multiply(lora.a, input))
        for i in y.indices { y[i] += lora.scale * update[i] }
        if let magnitude = lora.magnitude, let norms = norms[name] {
          for i in y.indices { y[i] *= magnitude[i] / norms[i] }
        }
        return y
      }
      let normed = x.map { rmsNorm($0, prefix + "input_layernorm.weight") }
      let queries = normed.enumerated().map { rotated(linear(.q, $1), position: $0) }
      let keys = normed.enumerated().map { rotated(linear(.k, $1), position: $0) }
      let values = normed.map { linear(.v, $0) }
      for position in tokens.indices {
        let attended = attention(queries[position], keys[...position], values[...position])
        x[position] = sum(x[position], linear(.o, attended))
      }
      for position in tokens.indices {
        let normed = rmsNorm(x[position], prefix + "post_attention_layernorm.weight")
        let (gate, up) = (linear(.gate, normed), linear(.up, normed))
        x[position] = sum(x[position], linear(.down, zip(gate, up).map { $0 / (1 + exp(-$0)) * $1 }))
      }
    }
    let head = config.tiedHead ? embedding : weights["lm_head.weight"] ?? embedding
    return x.map { multiply(head, rmsNorm($0, "model.norm.weight")) }
  }

  private func multiply(_ matrix: [Double], _ x: [Double]) -> [Double] {
    matrix.withUnsafeBufferPointer { matrix in
      x.withUnsafeBufferPointer { x in
        (0..<matrix.count / x.count).map { row in
          var total = 0.0
          for i in 0..<x.count { total += matrix[row * x.count + i] * x[i] }
          return total
        }
      }
    }
  }

  private func sum(_ a: [Double], _ b: [Double]) -> [Double] { zip(a, b).map { $0 + $1 } }

  private func rmsNorm(_ x: [Double], _ name: String) -> [Double] {
    let mean = x.reduce(0) { $0 + $1 * $1 } / Double(x.count)
    let factor = 1 / (mean + Double(config.rmsNormEpsilon)).squareRoot()
    return zip(x, weights[name] ?? []).map { $0 * factor * $1 }
  }

  private func rotated(_ x: [Double], position: Int) -> [Double] {
    var y = x
    let half = config.headSize / 2
    for head in stride(from: 0, to: x.count, by: config.headSize) {
      for i in 0..<half {
        let angle = Double(position) * pow(Double(config.rope.theta), -Double(2 * i) / Double(config.headSize))
        let (a, b) = (x[head + i], x[head + half + i])
        y[head + i] = a * cos(angle) - b * sin(angle)
        y[head + half + i] = b * cos(angle) + a * sin(angle)
      }
    }
    return y
  }

  private func attention(_ query: [Double], _ keys: ArraySlice<[Double]>, _ values: ArraySlice<[Double]>) -> [Double] {
    let size = config.headSize
    let group = config.headCount / config.keyValueHeadCount
    var out = [Double](repeating: 0, count: config.querySize)
    for head in 0..<config.headCount {
      let shared = head / group * size
      let scores = keys.map { key in
        (0..<size).reduce(0) { $0 + query[head * size + $1] * key[shared + $1] } / Double(size).squareRoot()
      }
      let highest = scores.max() ?? 0
      let weights = scores.map { exp($0 - highest) }
      let total = weights.reduce(0, +)
      for (weight, value) in zip(weights, values) {
        for i in 0..<size { out[head * size + i] += weight / total * value[shared + i] }
      }
    }
    return out
  }
}
