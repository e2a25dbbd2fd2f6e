import Formats
import Foundation
import Kernels
import Model
import TestSupport
import Testing

@testable import Train

/// The whole backward pass against central differences of the plain reference, in double precision.
@Suite struct GradientTests {
  /// Central differences along a random direction in each tensor: one number that every entry goes into.
  private func check(
    _ trainer: Trainer, _ reference: TrainReference, tolerance: Double = 2e-5, loss: (TrainReference) -> Double
  ) {
    var random = TinyRandom(seed: 77)
    var reference = reference
    if trainer.adapter.usesDoRA { reference.fixedNorms = reference.norms() }
    var worst = 0.0
    for adapted in trainer.adapter.projections {
      let name = adapted.projection.fullName(layer: adapted.layer)
      for part in trainer.adapter.parts(of: adapted) {
        let direction = random.values(part.count, scale: 1).map(Double.init)
        let step = 1e-5
        func moved(_ factor: Double) -> Double {
          var copy = reference
          for i in 0..<part.count { copy.loras[name]?[keyPath: part.path][i] += factor * step * direction[i] }
          return loss(copy)
        }
        let slope = (moved(1) - moved(-1)) / (2 * step)
        var along = 0.0
        var scale = 0.0
        for i in 0..<part.count {
          let gradient = Double(trainer.adapter.gradient(part.offset)[i])
          along += gradient * direction[i]
          scale += gradient * gradient
        }
        // The direction's entries have unit variance, so the slope is of the gradient's size.
        worst = max(worst, abs(along - slope) / max(scale.squareRoot(), 1e-6))
      }
    }
    #expect(worst < tolerance, "worst \(worst)")
    #expect(trainer.account.gradientNorm > 1e-3)
  }

  private func supervisedLoss(_ examples: [TrainingExample]) -> (TrainReference) -> Double {
    { reference in
      let rows = examples.flatMap(\.rows)
      let count = rows.reduce(0) { $0 + $1.lossCount }
      return rows.reduce(0) { $0 + reference.loss($1.tokens, $1.labels) } / Double(count)
    }
  }

  @Test(arguments: [
    TinyShape(hidden: 48, intermediate: 72, heads: 6, keyValueHeads: 2, headSize: 8, vocabulary: 90),
    // Padded stacks, dense weights, a tied head.
    TinyShape(hidden: 40, intermediate: 52, heads: 5, keyValueHeads: 1, headSize: 8, vocabulary: 85, isTied: true),
  ])
  func everyModule(shape: TinyShape) throws {
    let setting = try TrainSetting(shape)
    let examples = setting.rows([11, 1, 5, 9].map { $0 + 1 })
    let trainer = try setting.trainer(
      examples, TrainSetting.hyperparameters(["lora_r": 3, "lora_alpha": 6, "batch_size": 4, "shuffle": false]))
    trainer.stir()
    trainer.runToGradient()
    let reference = try TrainReference(setting, trainer)
    let loss = supervisedLoss(examples)
    #expect(abs(trainer.account.loss - loss(reference)) < 1e-5)
    check(trainer, reference, loss: loss)
  }

  @Test(arguments: [false, true]) func besideModulesThatTheBaseLeavesUnquantized(usesDoRA: Bool) throws {
    let names = ["0.self_attn.k_proj", "0.mlp.down_proj", "1.self_attn.o_proj", "1.mlp.gate_proj", "1.mlp.up_proj"]
    let setting = try TrainSetting(unquantized: Set(names.map { "model.layers.\($0).weight" }))
    let examples = setting.rows([12, 7])
    let trainer = try setting.trainer(
      examples, TrainSetting.hyperparameters(["lora_r": 3, "batch_size": 2, "use_dora": .bool(usesDoRA)]))
    if usesDoRA {
      // The first slices set the magnitudes to the base's norms.
      trainer.run(slices: trainer.stackCount)
      let started = try TrainReference(setting, trainer)
      for (name, norms) in started.norms() {
        let magnitude = started.loras[name]?.magnitude ?? []
        #expect(zip(norms, magnitude).allSatisfy { abs($0 - $1) < 1e-5 * $0 }, "\(name)")
      }
      return
    }
    trainer.stir()
    trainer.runToGradient()
    let reference = try TrainReference(setting, trainer)
    let loss = supervisedLoss(examples)
    #expect(abs(trainer.account.loss - loss(reference)) < 1e-5)
    check(trainer, reference, loss: loss)
  }

  @Test func someModulesOfSomeLayersWithPatterns() throws {
    let setting = try TrainSetting(
      TinyShape(hidden: 48, intermediate: 72, layers: 3, heads: 6, keyValueHeads: 2, headSize: 8, vocabulary: 90))
    let examples = setting.rows([9, 12])
    let trainer = try setting.trainer(
      examples,
      TrainSetting.hyperparameters([
        "lora_r": 2, "target_modules": ["v_proj", "gate_proj", "down_proj"], "layers_to_transform": [1, 2],
        "rank_pattern": ["gate_proj": 5], "alpha_pattern": ["v_proj": 3], "use_rslora": true, "batch_size": 2,
      ]))
    #expect(trainer.adapter.lowestLayer == 1)
    #expect(Set(trainer.adapter.projections.map(\.rank)) == [2, 5])
    trainer.stir()
    trainer.runToGradient()
    check(trainer, try TrainReference(setting, trainer), loss: supervisedLoss(examples))
  }

  @Test func doraWithDetachedNorms() throws {
    let setting = try TrainSetting()
    let examples = setting.rows([9, 12])
    let trainer = try setting.trainer(
      examples, TrainSetting.hyperparameters(["lora_r": 3, "use_dora": true, "batch_size": 2]))
    // The first slices set the magnitudes to the base's norms.
    trainer.run(slices: trainer.stackCount)
    let started = try TrainReference(setting, trainer)
    for (name, norms) in started.norms() {
      let magnitude = started.loras[name]?.magnitude ?? []
      #expect(zip(norms, magnitude).allSatisfy { abs($0 - $1) < 1e-5 * $0 })
    }
    // From another point, with factors that are not 1.
    let folder = try temporaryFolder()
    trainer.stir()
    for adapted in trainer.adapter.projections {
      for i in 0..<adapted.outputs { trainer.adapter.parameter(adapted.magnitude ?? 0)[i] *= 1 + 0.1 * Float(i % 3) }
    }
    try trainer.adapter.write(to: folder)
    let second = try setting.trainer(
      examples, TrainSetting.hyperparameters(["batch_size": 2]), initial: folder)
    second.runToGradient()
    let reference = try TrainReference(setting, second)
    let loss = supervisedLoss(examples)
    #expect(abs(second.account.loss - loss(reference)) < 1e-5)
    check(second, reference, tolerance: 5e-5, loss: loss)
  }

  @Test func preferences() throws {
    let setting = try TrainSetting()
    var random = TinyRandom(seed: 3)
    let examples = [(9, 7), (6, 12)].map { lengths in
      TrainingExample.pair(
        chosen: TrainSetting.row(lengths.0, vocabulary: 90, &random),
        rejected: TrainSetting.row(lengths.1, vocabulary: 90, &random))
    }
    let trainer = try setting.trainer(
      examples, TrainSetting.hyperparameters(["lora_r": 3, "beta": .number(0.3), "batch_size": 2], method: .dpo))
    trainer.stir()
    trainer.runToGradient()
    let loss: (TrainReference) -> Double = { reference in
      var total = 0.0
      for rows in examples.map(\.rows) {
        let gains = rows.map {
          reference.loss($0.tokens, $0.labels, adapted: false) - reference.loss($0.tokens, $0.labels)
        }
        total += log1p(exp(-0.3 * (gains[0] - gains[1])))
      }
      return total / 2
    }
    let reference = try TrainReference(setting, trainer)
    #expect(abs(trainer.account.loss - loss(reference)) < 2e-5)
    check(trainer, reference, tolerance: 1e-4, loss: loss)
  }

  @Test(arguments: [InstructionSet.tileReference, KernelSet.best.instructionSet])
  func fastModeIsNear(set: InstructionSet) throws {
    let kernels = try #require(KernelSet(set))
    let shape = TinyShape(hidden: 64, intermediate: 128, heads: 4, keyValueHeads: 2, headSize: 16, vocabulary: 96)
    var gradients: [[Float]] = []
    var losses: [[Double]] = []
    for mode in [ComputeMode.f32, .fast] {
      let setting = try TrainSetting(shape, mode: mode)
      func trainer() throws -> Trainer {
        try setting.trainer(
          setting.rows([20, 20]),
          TrainSetting.hyperparameters([
            "lora_r": 4, "batch_size": 2, "max_steps": 10, "learning_rate": .number(0.003), "warmup_ratio": 0,
          ]), mode: mode, kernels: kernels)
      }
      let first = try trainer()
      first.stir()
      first.runToGradient()
      gradients.append(first.gradientValues)
      let whole = try trainer()
      whole.run()
      losses.append(whole.losses)
    }
    let distance = relativeDistance(gradients[1], gradients[0])
    // This model's small gradients amplify all rounding. Two sets round gradients to bf16.
    #expect(distance > 0 && distance < ([.tileReference, .amx].contains(set) ? 0.15 : 0.05), "\(distance)")
    // The curves of ten steps.
    #expect(losses[0].count == 10 && losses[0][9] < 0.98 * losses[0][0])
    for (near, exact) in zip(losses[1], losses[0]) { #expect(abs(near - exact) < 2e-3 * exact, "\(near), \(exact)") }
  }
}

extension Trainer {
  /// Projections that are trained, over all layers.
  fileprivate var stackCount: Int { adapter.layers.reduce(0) { $0 + $1.all.count { $0 != nil } } }
}
