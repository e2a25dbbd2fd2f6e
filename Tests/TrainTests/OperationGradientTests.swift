import Formats
import Foundation
import Kernels
import Model
import TestSupport
import Testing

@testable import Train

/// Each operation's way back against central differences, in double precision, of the operation written down plainly.
@Suite struct OperationGradientTests {
  private let compute = Compute(pool: ThreadPool(threads: 2))

  /// Compares a gradient with the slope of `function` along random directions, relative to the gradient's size.
  private func check(
    _ name: String, _ gradient: [Float], at point: [Double], tolerance: Double = 2e-6,
    _ function: ([Double]) -> Double
  ) {
    var random = TinyRandom(seed: 41)
    let size = gradient.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
    #expect(size > 1e-3, "\(name) has a gradient")
    for _ in 0..<8 {
      let direction = random.values(point.count, scale: 1).map(Double.init)
      let step = 1e-5
      func moved(_ factor: Double) -> Double { function(zip(point, direction).map { $0 + factor * step * $1 }) }
      let slope = (moved(1) - moved(-1)) / (2 * step)
      let along = zip(gradient, direction).reduce(0) { $0 + Double($1.0) * $1.1 }
      #expect(abs(along - slope) < tolerance * size, "\(name): \(along) instead of \(slope)")
    }
  }

  private func buffer(_ values: [Float]) -> AlignedBuffer<Float> {
    let buffer = AlignedBuffer<Float>(count: values.count)
    for (i, value) in values.enumerated() { buffer[i] = value }
    return buffer
  }

  private func dot(_ a: [Float], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + Double($1.0) * $1.1 } }

  @Test func rmsNorm() {
    var random = TinyRandom(seed: 1)
    let (rows, size) = (3, 37)
    let x = random.values(rows * size, scale: 2)
    let weight = random.values(size, scale: 1)
    let dout = random.values(rows * size, scale: 1)
    let dx = AlignedBuffer<Float>(count: rows * size)
    let inputs = [x, weight, dout].map(buffer)
    compute.rmsNormBackward(
      inputs[0].pointer, weight: inputs[1].pointer, epsilon: 1e-5, dout: inputs[2].pointer, rows: rows, size: size,
      adding: dx.pointer)
    withExtendedLifetime(inputs) {}
    check("x", Array(dx.buffer), at: x.map(Double.init)) { x in
      var out: [Double] = []
      for row in 0..<rows {
        let values = x[row * size..<(row + 1) * size]
        let mean = values.reduce(0) { $0 + $1 * $1 } / Double(size)
        out += zip(values, weight).map { $0 / (mean + 1e-5).squareRoot() * Double($1) }
      }
      return dot(dout, out)
    }
  }

  @Test(arguments: [GateActivation.silu, .geluTanh]) func gated(activation: GateActivation) {
    var random = TinyRandom(seed: 2)
    let count = 45
    let (gate, up) = (random.values(count, scale: 4), random.values(count, scale: 2))
    let dout = random.values(count, scale: 1)
    let (dgate, dup) = (AlignedBuffer<Float>(count: count), AlignedBuffer<Float>(count: count))
    let inputs = [gate, up, dout].map(buffer)
    compute.gatedBackward(
      activation, gate: inputs[0].pointer, up: inputs[1].pointer, dout: inputs[2].pointer, ld: count, rows: 1,
      size: count, dgate: dgate.pointer, dup: dup.pointer)
    withExtendedLifetime(inputs) {}
    func activated(_ x: Double) -> Double {
      activation == .silu
        ? x / (1 + exp(-x)) : 0.5 * x * (1 + tanh((2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)))
    }
    func loss(_ gate: [Double], _ up: [Double]) -> Double { dot(dout, zip(gate, up).map { activated($0) * $1 }) }
    check("gate", Array(dgate.buffer), at: gate.map(Double.init)) { loss($0, up.map(Double.init)) }
    check("up", Array(dup.buffer), at: up.map(Double.init)) { loss(gate.map(Double.init), $0) }
  }

  @Test func crossEntropy() {
    var random = TinyRandom(seed: 3)
    let (rows, vocabulary) = (3, 50)
    let logits = random.values(rows * vocabulary, scale: 3)
    let (targets, weights): ([Int32], [Float]) = ([4, 49, 0], [0.5, -2, 1])
    let gradient = buffer(logits)
    let scores = compute.crossEntropy(
      gradient.pointer, ld: vocabulary, vocabulary: vocabulary, targets: targets[...], weights: weights[...])
    func losses(_ logits: [Double]) -> [Double] {
      (0..<rows).map { row in
        let line = logits[row * vocabulary..<(row + 1) * vocabulary]
        return log(line.reduce(0) { $0 + exp($1) }) - line[row * vocabulary + Int(targets[row])]
      }
    }
    for (score, loss) in zip(scores, losses(logits.map(Double.init))) { #expect(abs(score.loss - loss) < 1e-5) }
    check("logits", Array(gradient.buffer), at: logits.map(Double.init)) { dot(weights, losses($0)) }
  }

  /// Rows of several lengths, one of them longer than a block of queries, cut into as many pieces as there can be.
  @Test(arguments: [0, 1 << 40])
  func ropeAndAttention(operations: Int) {
    var random = TinyRandom(seed: 4)
    let (heads, shared, size, rows) = (4, 2, 8, [0..<70, 70..<79])
    let attention = RowAttention(headCount: heads, keyValueHeadCount: shared, headSize: size)
    let (tokens, width) = (79, (heads + 2 * shared) * size)
    let input = random.values(tokens * width, scale: 1)
    let dout = random.values(tokens * heads * size, scale: 1)
    let positions = rows.flatMap { (0..<Int32($0.count)) }
    let (cosine, sine) = (AlignedBuffer<Float>(count: 70 * size / 2), AlignedBuffer<Float>(count: 70 * size / 2))
    for i in 0..<70 * size / 2 {
      let angle = Double(i / (size / 2)) * pow(100, -Double(i % (size / 2)) * 2 / Double(size))
      (cosine[i], sine[i]) = (Float(cos(angle)), Float(sin(angle)))
    }
    let all = buffer(input)
    func part(_ values: AlignedBuffer<Float>, _ head: Int) -> Rows {
      Rows(values.pointer, stride: width).from(column: head * size)
    }
    func rotate(_ values: AlignedBuffer<Float>, backward: Bool) {
      compute.rotate(
        part(values, 0), positions: positions[...], heads: heads + shared, headSize: size, cosine: cosine.pointer,
        sine: sine.pointer, backward: backward)
    }
    rotate(all, backward: false)
    let (out, logSumExp) = (AlignedBuffer<Float>(count: dout.count), AlignedBuffer<Float>(count: tokens * heads))
    let (gradient, perHead) = (AlignedBuffer<Float>(count: input.count), AlignedBuffer<Float>(count: 2 * dout.count))
    let held = buffer(dout)
    let outRows = Rows(out.pointer, stride: heads * size)
    let pieces = attention.parts(rows: rows, operations: operations)
    #expect(pieces.count == (operations == 0 ? 6 : 1))
    for piece in pieces {
      attention.forward(
        compute, rows: rows, part: piece, queries: part(all, 0), keys: part(all, heads),
        values: part(all, heads + shared), out: outRows, logSumExp: logSumExp.pointer)
    }
    for piece in pieces {
      attention.backward(
        compute, rows: rows, part: piece, queries: part(all, 0), keys: part(all, heads),
        values: part(all, heads + shared), out: outRows, dout: Rows(held.pointer, stride: heads * size),
        logSumExp: logSumExp.pointer, dqueries: part(gradient, 0), perHead: perHead.pointer)
    }
    attention.sumHeadGroups(
      compute, tokens: tokens, range: 0..<tokens, perHead: perHead.pointer, dkeys: part(gradient, heads),
      dvalues: part(gradient, heads + shared))
    rotate(gradient, backward: true)
    withExtendedLifetime((held, all, out, perHead, logSumExp)) {}
    let (cosines, sines) = (cosine.buffer.map(Double.init), sine.buffer.map(Double.init))
    check("queries, keys and values", Array(gradient.buffer), at: input.map(Double.init), tolerance: 1e-5) { values in
      var x = values
      for token in 0..<tokens {
        for head in 0..<heads + shared {
          for i in 0..<size / 2 {
            let at = token * width + head * size + i
            let angle = Int(positions[token]) * size / 2 + i
            let (a, b) = (x[at], x[at + size / 2])
            x[at] = a * cosines[angle] - b * sines[angle]
            x[at + size / 2] = b * cosines[angle] + a * sines[angle]
          }
        }
      }
      var total = 0.0
      for row in rows {
        for token in row {
          for head in 0..<heads {
            let key = heads + head / (heads / shared)
            let scores = (row.lowerBound...token).map { other in
              (0..<size).reduce(0) { $0 + x[token * width + head * size + $1] * x[other * width + key * size + $1] }
                / Double(size).squareRoot()
            }
            let sum = scores.reduce(0) { $0 + exp($1) }
            for (other, score) in zip(row.lowerBound...token, scores) {
              for i in 0..<size {
                total +=
                  exp(score) / sum * x[other * width + (key + shared) * size + i]
                  * Double(dout[(token * heads + head) * size + i])
              }
            }
          }
        }
      }
      return total
    }
  }

  /// −log σ(β·margin), as a function of the rows' −log-likelihoods.
  @Test func preferenceLoss() throws {
    let setting = try TrainSetting()
    var random = TinyRandom(seed: 5)
    let pairs = (0..<2).map { _ in
      TrainingExample.pair(
        chosen: TrainSetting.row(6, vocabulary: 90, &random), rejected: TrainSetting.row(6, vocabulary: 90, &random))
    }
    let trainer = try setting.trainer(
      pairs, TrainSetting.hyperparameters(["lora_r": 2, "beta": .number(0.4), "batch_size": 2], method: .dpo))
    let beta = try #require(trainer.loss as? PreferenceLoss).beta
    var references = References(count: 2)
    references[0] = (9, 11)
    references[1] = (14, 8)
    let loss = PreferenceLoss(beta: beta, references: references)
    let examples = Microbatch.pack(pairs).examples
    #expect(examples == [0, 0, 1, 1])
    let point = [8.5, 12.5, 13, 9]
    let found = loss.preferences(examples, point)
    // Margins of 0.4 · (0.5 + 1.5) and 0.4 · (1 + 1).
    #expect(abs(found.losses.sum - 2 * log1p(exp(-0.8))) < 1e-12)
    check("likelihoods", found.weights.map { Float($0) }, at: point) { loss.preferences(examples, $0).losses.sum }
  }

  /// q, k and v of a layer with their adapters: the gradients of A, B, the magnitudes and the input.
  @Test(arguments: [(0.0, false, false), (0.3, false, false), (0, true, false), (0, false, true), (0.3, true, true)])
  func adaptedLinear(dropout: Double, usesRSLoRA: Bool, usesDoRA: Bool) throws {
    let setting = try TrainSetting()
    let trainer = try setting.trainer(
      setting.rows([5, 9]),
      TrainSetting.hyperparameters([
        "lora_r": 3, "lora_alpha": 6, "lora_dropout": .number(dropout), "use_rslora": .bool(usesRSLoRA),
        "use_dora": .bool(usesDoRA), "batch_size": 2, "shuffle": false,
      ]))
    trainer.stir()
    let (model, adapter) = (trainer.model, trainer.adapter)
    let lora = try #require(adapter.layers[0].queryKeyValue)
    #expect(lora.projections.allSatisfy { abs($0.scale - (usesRSLoRA ? 6 / Float(3).squareRoot() : 2)) < 1e-5 })
    if usesDoRA {
      try model.refreshFactors(settingMagnitudes: true, interruptible: true, UnpacedSlices())
      for adapted in adapter.projections {
        for i in 0..<adapted.outputs { adapter.parameter(adapted.magnitude ?? 0)[i] *= 1 + 0.1 * Float(i % 3) }
      }
      try model.refreshFactors(settingMagnitudes: false, interruptible: true, UnpacedSlices())
    }
    let pass = TrainingPass(
      model, Microbatch.pack(setting.rows([5, 9])), .training(step: 3), UnpacedSlices())
    let (tokens, weights) = (14, setting.base.layers[0].queryKeyValue)
    var random = TinyRandom(seed: 6)
    let x = random.values(tokens * lora.inputs, scale: 1)
    let dy = random.values(tokens * weights.matrix.paddedOutputs, scale: 1)
    let (input, gradient) = (buffer(x), buffer(dy))
    let output = AlignedBuffer<Float>(count: dy.count)
    let kept = AlignedBuffer<Float>(count: tokens * lora.rankSum)
    let inner = Rows(kept.pointer, stride: lora.rankSum)
    let dx = AlignedBuffer<Float>(count: x.count)
    let ld = weights.matrix.paddedOutputs
    let inputs = Rows(input.pointer, stride: lora.inputs)
    try pass.linear(0, .queryKeyValue, inputs, into: Rows(output.pointer, stride: ld), inner: inner)
    try pass.linearBackward(
      0, .queryKeyValue, dy: Rows(gradient.pointer, stride: ld), x: inputs, inner: inner,
      output: Rows(output.pointer, stride: ld), dx: Rows(dx.pointer, stride: lora.inputs))

    withExtendedLifetime((kept, input, gradient)) {}
    var reference = try TrainReference(setting, trainer)
    reference.fixedNorms = reference.norms()
    /// What dropout leaves of a token's input to a module.
    func left(_ adapted: TrainableAdapter.AdaptedProjection, _ token: Int, _ row: [Double]) -> [Double] {
      if dropout == 0 { return row }
      let (ordinal, position) = token < 5 ? (UInt64(0), token) : (2, token - 5)
      let key = CounterKey(
        UInt64(bitPattern: Int64(model.seed)), EpochOrder.Stream.dropout.rawValue, 3, ordinal, UInt64(adapted.index))
      return row.enumerated().map { column, value in
        let draw = Double(key[UInt32(position * lora.inputs + column)]) * 0x1p-32
        return draw < Double(Float(dropout)) ? 0 : value / Double(1 - Float(dropout))
      }
    }
    func loss(_ reference: TrainReference, _ x: [Double]) -> Double {
      var total = 0.0
      for token in 0..<tokens {
        let row = Array(x[token * lora.inputs..<(token + 1) * lora.inputs])
        for adapted in lora.projections {
          let y = reference.linear(adapted.projection.fullName(layer: 0), row, left: left(adapted, token, row))
          let first = token * ld + weights.offset(adapted.projection)
          total += dot(Array(dy[first..<first + y.count]), y)
        }
      }
      return total
    }
    let point = x.map(Double.init)
    check("x", Array(dx.buffer), at: point, tolerance: 1e-5) { loss(reference, $0) }
    for adapted in lora.projections {
      let name = adapted.projection.fullName(layer: 0)
      for part in adapter.parts(of: adapted) {
        let gradient = (0..<part.count).map { adapter.gradient(part.offset)[$0] }
        check(name, gradient, at: reference.loras[name]?[keyPath: part.path] ?? [], tolerance: 1e-5) { moved in
          var changed = reference
          changed.loras[name]?[keyPath: part.path] = moved
          return loss(changed, point)
        }
      }
    }
  }
}
