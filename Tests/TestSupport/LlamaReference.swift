public import Formats
import Foundation
import Kernels
import Model

/// The Llama forward pass written down plainly, in double precision, one sequence at a time.
public struct LlamaReference {
  /// What a linear module of a layer gives for an input beside W·x: changes the output that it is given.
  public typealias Adapting = (
    _ module: Projection, _ layer: Int, _ input: [Double], _ output: inout [Double]
  ) -> Void

  public let config: ModelConfig
  /// What the server computes with, by name: linear modules through NF4 and back unless the folder leaves them
  /// unquantised, all else as published.
  public let weights: [String: [Double]]
  private let frequencies: [Double]

  public init(_ model: TinyModel, config: ModelConfig) throws {
    self.config = config
    var weights: [String: [Double]] = [:]
    for (name, tensor) in model.tensors {
      var values = tensor.values
      if model.isQuantized(name) {
        let (packed, absmax) = try NF4.quantize(values)
        values = NF4.dequantize(packed: packed, absmax: absmax, count: values.count)
      }
      weights[name] = values.map(Double.init)
    }
    self.weights = weights
    let theta = Double(config.rope.theta)
    frequencies = (0..<config.headSize / 2).map { i in pow(theta, -Double(2 * i) / Double(config.headSize)) }
  }

  /// Logits of every position, with adapters of a folder.
  public func logits(_ tokens: [Int32], _ adapters: [(adapter: TinyAdapter, weight: Double)] = []) -> [[Double]] {
    logits(tokens, adapting: Self.adapting(adapters))
  }

  /// The hidden states of every position after the final norm, with adapters of a folder.
  public func hiddenStates(
    _ tokens: [Int32], _ adapters: [(adapter: TinyAdapter, weight: Double)] = []
  ) -> [[Double]] { hiddenStates(tokens, adapting: Self.adapting(adapters)) }

  private static func adapting(_ adapters: [(adapter: TinyAdapter, weight: Double)]) -> Adapting {
    { module, layer, input, output in
      for term in adapters {
        for lora in term.adapter.modules where lora.layer == layer && lora.projection == module {
          let update = Self.multiply(lora.b.map(Double.init), Self.multiply(lora.a.map(Double.init), input))
          for i in output.indices { output[i] += term.weight * lora.scale * update[i] }
        }
      }
    }
  }

  /// Logits of every position.
  public func logits(_ tokens: [Int32], adapting: Adapting) -> [[Double]] {
    let embedding = weights["model.embed_tokens.weight"] ?? []
    let head = config.tiedHead ? embedding : weights["lm_head.weight"] ?? embedding
    return hiddenStates(tokens, adapting: adapting).map { Self.multiply(head, $0) }
  }

  private func hiddenStates(_ tokens: [Int32], adapting: Adapting) -> [[Double]] {
    let embedding = weights["model.embed_tokens.weight"] ?? []
    let size = config.hiddenSize
    var x = tokens.map { Array(embedding[Int($0) * size..<(Int($0) + 1) * size]) }
    for layer in 0..<config.layerCount {
      let prefix = "model.layers.\(layer)."
      func linear(_ module: Projection, _ input: [Double]) -> [Double] {
        var y = Self.multiply(weights[module.fullName(layer: layer) + ".weight"] ?? [], input)
        adapting(module, layer, input, &y)
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
    return x.map { rmsNorm($0, "model.norm.weight") }
  }

  /// W·x for a row-major W.
  public static func multiply(_ matrix: [Double], _ x: [Double]) -> [Double] {
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

  /// Each head's halves are the real and imaginary parts of what is turned.
  private func rotated(_ x: [Double], position: Int) -> [Double] {
    var y = x
    let half = config.headSize / 2
    for head in stride(from: 0, to: x.count, by: config.headSize) {
      for i in 0..<half {
        let angle = Double(position) * frequencies[i]
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
