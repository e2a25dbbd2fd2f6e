import Formats
import Foundation
import Kernels
import Model
import TestSupport
import Testing

@testable import Train

/// The gradients of adapters on Llama's relatives, against those of PEFT and torch.
@Suite struct ArchitectureGradientTests {
  /// - Parameter activationMemory: 0 computes every layer again in the backward pass
  private func trainer(_ fixture: ArchitectureFixture, _ base: Base, activationMemory: Int) throws -> Trainer {
    let hyperparameters = try TrainSetting.hyperparameters(["batch_size": 1, "max_steps": 1, "shuffle": false])
    let row = TrainingExample.row(TrainingRow(tokens: fixture.tokens, labels: fixture.tokens))
    return try Trainer(
      base: base, compute: Compute(pool: ThreadPool(threads: 2)),
      data: TrainingData([row], hyperparameters: hyperparameters, model: base.config),
      hyperparameters: hyperparameters,
      configuration: TrainerConfiguration(
        folder: nil, baseName: "tiny", initialAdapter: fixture.adapter, activationMemory: activationMemory))
  }

  @Test(arguments: ArchitectureFixture.names.map { ($0, false) } + ArchitectureFixture.ggufNames.map { ($0, true) })
  func theyArePEFTs(name: String, isGGUF: Bool) throws {
    let fixture = try ArchitectureFixture(name)
    let base = try fixture.base(isGGUF ? openPublishedModel(at: fixture.writeGGUF()) : fixture.source())
    let trainer = try trainer(fixture, base, activationMemory: 256 << 20)
    trainer.runToGradient()
    var found = 0
    for tensor in trainer.adapter.tensors {
      let wanted = try fixture.expected.floats(tensor.name)
      let values = (0..<wanted.count).map { trainer.adapter.gradient(tensor.offset)[$0] }
      let distance = relativeDistance(values, wanted)
      #expect(distance < 1e-4, "\(tensor.name): \(distance)")
      found += 1
    }
    #expect(found == fixture.expected.tensors.count - 2)
    let recomputing = try self.trainer(fixture, base, activationMemory: 0)
    recomputing.runToGradient()
    #expect(bits(recomputing.gradientValues) == bits(trainer.gradientValues))
  }
}
