import Formats
import Foundation
import Kernels
import Model
import TestSupport
import Testing

@testable import Train

/// What the mathematics says is equal: packing, microbatches, accumulation, recomputation, threads.
@Suite struct InvarianceTests {
  /// Blocks of 64 columns, and stacks that fill no tile of 32 outputs.
  private static let quantized = TinyShape(
    hidden: 64, intermediate: 128, heads: 4, keyValueHeads: 2, headSize: 20, vocabulary: 90)

  private func gradient(
    _ pairs: KeyValuePairs<String, JSONValue>, mode: ComputeMode = .f32, kernels: KernelSet = .best, threads: Int = 1,
    activationMemory: Int = 256 << 20
  ) throws -> (loss: Double, gradient: [Float]) {
    let setting = mode == .f32 ? try TrainSetting() : try TrainSetting(Self.quantized, mode: mode)
    var all = pairs.map { (key: $0.key, value: $0.value) }
    all += [("lora_r", 3), ("shuffle", false)]
    let hyperparameters = try Hyperparameters(json: JSONObject(keepingFirst: all))
    let trainer = try setting.trainer(
      setting.rows([40, 3, 17, 90, 5, 64, 2, 33]), hyperparameters, mode: mode, kernels: kernels, threads: threads,
      activationMemory: activationMemory)
    trainer.stir()
    trainer.runToGradient()
    return (trainer.account.loss, trainer.gradientValues)
  }

  @Test(arguments: [0.0, 0.3])
  func packingAndAccumulationChangeNothing(dropout: Double) throws {
    let drop = JSONValue.number(dropout)
    let one = try gradient(["batch_size": 8, "lora_dropout": drop])
    for (packing, batch) in [(false, 8), (true, 4), (true, 1), (false, 2)] {
      let other = try gradient([
        "batch_size": .integer(batch), "gradient_accumulation_steps": .integer(8 / batch), "packing": .bool(packing),
        "lora_dropout": drop,
      ])
      #expect(abs(other.loss - one.loss) < 1e-12 * one.loss)
      // Every sum is one chain over the tokens in their order, wherever microbatches end.
      #expect(other.gradient.map(\.bitPattern) == one.gradient.map(\.bitPattern))
    }
    // Dropout does something.
    let without = try gradient(["batch_size": 8])
    #expect((abs(without.loss - one.loss) > 1e-4) == (dropout > 0))
  }

  @Test func recomputingAndThreadsChangeNoBit() throws {
    let one = try gradient(["batch_size": 8, "lora_dropout": .number(0.1)])
    for (threads, memory) in [(1, 0), (2, 0), (3, 256 << 20), (2, 120_000)] {
      let other = try gradient(
        ["batch_size": 8, "lora_dropout": .number(0.1)], threads: threads, activationMemory: memory)
      #expect(other.gradient.map(\.bitPattern) == one.gradient.map(\.bitPattern))
    }
  }

  /// The same with quantised products, in the arithmetic of every instruction set.
  @Test(arguments: [InstructionSet.tileReference, KernelSet.best.instructionSet], [0.0, 0.2])
  func quantizedProductsAreAsInvariant(set: InstructionSet, dropout: Double) throws {
    let kernels = try #require(KernelSet(set))
    let settings: [(batch: Int, packing: Bool, threads: Int, memory: Int)] = [
      (8, true, 1, 256 << 20), (4, true, 2, 0), (1, false, 3, 120_000), (2, true, 1, 256 << 20),
    ]
    let gradients = try settings.map { setting in
      try gradient(
        [
          "batch_size": .integer(setting.batch), "gradient_accumulation_steps": .integer(8 / setting.batch),
          "packing": .bool(setting.packing), "lora_dropout": .number(dropout),
        ], mode: .fast, kernels: kernels, threads: setting.threads, activationMemory: setting.memory
      ).gradient.map(\.bitPattern)
    }
    #expect(Set(gradients).count == 1)
  }

  /// The mask's share and mean are those of its probability, and another seed's is another.
  @Test func dropoutDropsItsShare() throws {
    let compute = Compute(pool: ThreadPool(threads: 1))
    let count = 20_000
    let (x, out) = (AlignedBuffer<Float>(count: count), AlignedBuffer<Float>(count: count))
    for i in 0..<count { x[i] = 1 }
    func mask(_ key: CounterKey) -> [Float] {
      compute.dropout(
        Rows(x.pointer, stride: count), into: Rows(out.pointer, stride: count), columns: count, probability: 0.3,
        keys: [key][...], positions: [0][...])
      return Array(out.buffer)
    }
    let first = mask(CounterKey(1, 2))
    let dropped = first.count { $0 == 0 }
    #expect(abs(dropped - 6000) < 300)
    #expect(first.allSatisfy { $0 == 0 || abs($0 - 1 / 0.7) < 1e-6 })
    let second = mask(CounterKey(1, 3))
    let both = zip(first, second).count { $0 == 0 && $1 == 0 }
    #expect(abs(both - 1800) < 200)
  }

  @Test func threeStepsLeaveTheBaseAlone() throws {
    let setting = try TrainSetting()
    let location = setting.model.store.location(
      sourceHash: try setting.model.store.sourceHash(try setting.model.source()))
    let before = try Data(contentsOf: location)
    let trainer = try setting.trainer(
      setting.rows([30, 20]), TrainSetting.hyperparameters(["max_steps": 3, "warmup_ratio": 0, "batch_size": 2]))
    trainer.run()
    #expect(trainer.state == .finished && trainer.losses.count == 3)
    #expect(trainer.losses[2] < trainer.losses[0])
    #expect(try Data(contentsOf: location) == before)
  }

  /// Training's loss is what the server computes for the same tokens. In the modes other than f32 attention differs, and on
  /// tile registers LoRA's products do, too.
  @Test(
    arguments: [(ComputeMode.f32, 1e-5), (.bf16, 2e-3), (.fast, 1e-2)],
    [InstructionSet.tileReference, KernelSet.best.instructionSet])
  func lossIsServings(_ mode: (compute: ComputeMode, bound: Double), set: InstructionSet) throws {
    let kernels = try #require(KernelSet(set))
    let setting = try TrainSetting(mode: mode.compute)
    let examples = setting.rows([40])
    let folder = try temporaryFolder()
    let trainer = try setting.trainer(
      examples, TrainSetting.hyperparameters(["max_steps": 4, "learning_rate": .number(0.01), "warmup_ratio": 0]),
      mode: mode.compute, kernels: kernels, folder: folder)
    trainer.run()
    let again = try setting.trainer(
      examples, TrainSetting.hyperparameters(["max_steps": 1]), mode: mode.compute, kernels: kernels, initial: folder)
    again.runToGradient()
    let adapter = try Adapter(peft: folder, base: setting.base, mode: mode.compute)
    let transformer = Transformer(
      base: setting.base, compute: Compute(kernels: kernels, pool: ThreadPool(threads: 1), mode: mode.compute))
    let cache = try KeyValueCache(
      config: setting.base.config, bytes: 4 << 20, element: mode.compute == .fast ? .int16 : .f32)
    guard case .row(let row) = examples[0] else {
      Issue.record("the first example is no row")
      return
    }
    var table = BlockTable()
    #expect(cache.extend(&table, to: row.tokens.count))
    var (total, count) = (0.0, 0)
    transformer.forward(
      ForwardBatch(segments: [
        .init(
          tokens: row.tokens, position: 0, table: table, adapters: AdapterSet([(adapter, 1)]),
          logits: 0..<row.tokens.count)
      ]), cache: cache
    ) { logits, ld in
      for i in 1..<row.tokens.count where row.labels[i] != TrainingRow.ignored {
        let values = UnsafeBufferPointer(start: logits + (i - 1) * ld, count: setting.base.config.vocabularySize)
        total += LogitRow(values, compute: transformer.compute).logSumExp - Double(values[Int(row.labels[i])])
        count += 1
      }
    }
    let difference = abs(total / Double(count) - again.account.loss)
    #expect(difference < mode.bound, "\(difference)")
  }
}
