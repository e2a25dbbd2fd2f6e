import Formats
import Foundation
import Kernels
import Model
import Testing

@testable import Train

/// The repository's copy of the small real model; `make model` puts it there.
private let smallModel = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .deletingLastPathComponent().appending(path: "models/SmolLM2-135M-Instruct.Q4_1.gguf")

/// Twenty steps of transformers, PEFT and torch on the small real model (Fixtures/golden).
@Suite struct GoldenTrainingTests {
  private struct Golden: Decodable {
    struct Row: Decodable {
      var ids: [Int32]
      var labels: [Int32]
    }
    struct Step: Decodable {
      var loss: Double
      var grad_norm: Double
    }
    struct Probe: Decodable {
      struct Token: Decodable { var id: Int32 }
      var ids: [Int32]
      var greedy: [Token]
    }
    var rows: [Row]
    var steps: [Step]
    var probe: Probe
  }

  private static var fixtures: URL? { Bundle.module.resourceURL?.appending(path: "Fixtures/golden") }

  @Test func twentySteps() throws {
    try #require(
      FileManager.default.fileExists(atPath: smallModel.path), "the small model is missing: make model fetches it")
    let fixtures = try #require(Self.fixtures)
    let golden = try JSONDecoder().decode(
      Golden.self, from: Data(contentsOf: fixtures.appending(path: "train.json")))
    let data = FileManager.default.temporaryDirectory.appending(path: "graft-golden-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: data) }
    let pool = ThreadPool(threads: ProcessInfo.processInfo.activeProcessorCount)
    let (base, location) = try BaseStore(dataFolder: data).open(try openPublishedModel(at: smallModel), pool: pool)
    let before = try SHA256.of(file: location)
    let hyperparameters = try TrainSetting.hyperparameters([
      "learning_rate": .number(0.002), "weight_decay": .number(0.01), "batch_size": 4, "max_steps": 20,
      "max_grad_norm": 1,
      "scheduler": "constant", "shuffle": false, "checkpoint_steps": 20,
    ])
    let examples = golden.rows.map { TrainingExample.row(TrainingRow(tokens: $0.ids, labels: $0.labels)) }
    let trainer = try Trainer(
      base: base, compute: Compute(pool: pool),
      data: TrainingData(examples, hyperparameters: hyperparameters, model: base.config),
      hyperparameters: hyperparameters,
      configuration: TrainerConfiguration(
        folder: data.appending(path: "adapter"), baseName: "golden", initialAdapter: fixtures.appending(path: "init")))
    trainer.runToGradient()
    try expectGradients(trainer, SafetensorsFile(fixtures.appending(path: "gradients.safetensors")))

    var metrics: [StepMetrics] = []
    trainer.run(onEvent: { if case .metrics(let step) = $0 { metrics.append(step) } })
    #expect(metrics.count == 20)
    for (step, wanted) in zip(metrics, golden.steps).prefix(10) {
      #expect(
        abs(step.trainLoss - wanted.loss) <= max(1e-3 * wanted.loss, 1e-4), "step \(step.step): \(step.trainLoss)")
    }
    for (step, wanted) in zip(metrics, golden.steps).prefix(5) {
      #expect(abs(step.gradNorm - wanted.grad_norm) <= 1e-2 * wanted.grad_norm, "step \(step.step): \(step.gradNorm)")
    }
    #expect((metrics.last?.trainLoss ?? 9) < 0.1)
    let adapter = try Adapter(peft: data.appending(path: "adapter"), base: base, mode: .f32)
    try expectGreedy(golden.probe, Transformer(base: base, compute: Compute(pool: pool)), adapter)
    #expect(try SHA256.of(file: location) == before)
  }

  /// With the trained adapter, the reference's greedy tokens are the best all along their path: the text is the same.
  private func expectGreedy(_ probe: Golden.Probe, _ transformer: Transformer, _ adapter: Adapter) throws {
    let config = transformer.base.config
    let path = probe.greedy.map(\.id)
    let tokens = probe.ids + path.dropLast()
    let cache = try KeyValueCache(config: config, bytes: 64 << 20, element: .f32)
    var table = BlockTable()
    try #require(cache.extend(&table, to: tokens.count))
    var best: [Int32] = []
    transformer.forward(
      ForwardBatch(segments: [
        .init(
          tokens: tokens, position: 0, table: table, adapters: AdapterSet([(adapter, 1)]),
          logits: probe.ids.count - 1..<tokens.count)
      ]), cache: cache
    ) { logits, ld in
      for row in 0..<path.count {
        let values = UnsafeBufferPointer(start: logits + row * ld, count: config.vocabularySize)
        best.append(Int32(values.indices.max { values[$0] < values[$1] } ?? -1))
      }
    }
    #expect(best == path)
  }

  /// Those of the first step, before clipping.
  private func expectGradients(_ trainer: Trainer, _ file: SafetensorsFile) throws {
    var found = 0
    for tensor in trainer.adapter.tensors where file.tensors[tensor.name] != nil {
      let wanted = try file.floats(tensor.name)
      let values = (0..<wanted.count).map { trainer.adapter.gradient(tensor.offset)[$0] }
      #expect(relativeDistance(values, wanted) < 1e-4, "\(tensor.name): \(relativeDistance(values, wanted))")
      found += 1
    }
    #expect(found == file.tensors.count)
  }
}
