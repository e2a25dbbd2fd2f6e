import Formats
import Foundation
import Kernels
import Model
import TestSupport
import Testing

@testable import Train

/// Steps of millions of rows: counted and packed in slices of bounded work and memory.
@Suite struct LargeStepTests {
  private static let small = TinyShape(
    hidden: 24, intermediate: 32, heads: 3, keyValueHeads: 1, headSize: 8, vocabulary: 40)

  @Test(arguments: [Hyperparameters.Method.supervised, .dpo], [true, false])
  func rowsArePackedWhenItIsTheirTurn(method: Hyperparameters.Method, packing: Bool) throws {
    let setting = try TrainSetting(Self.small)
    let rows = setting.rows([9, 12])
    let examples =
      method == .supervised
      ? rows : [TrainingExample.pair(chosen: rows[0].rows[0], rejected: rows[1].rows[0])]
    let trainer = try setting.trainer(
      examples,
      TrainSetting.hyperparameters(
        [
          "batch_size": 4096, "gradient_accumulation_steps": 4096, "max_steps": 1, "lora_r": 1,
          "packing": .bool(packing),
        ], method: method), folder: try temporaryFolder())
    // Slices from one microbatch to the next.
    let limit = 40 * setting.base.config.layerCount + 100
    var (tokens, sincePacked, isUpdating) = (0, 0, false)
    // Some thousand slices are a few microbatches; all of the step would be millions.
    let slices = TestSlices { slice in
      let added = trainer.account.tokens - tokens
      #expect(added <= trainer.limits.tokens)
      tokens = trainer.account.tokens
      // Before the first one, the step's rows are counted.
      sincePacked = added > 0 || tokens == 0 ? 0 : sincePacked + 1
      #expect(sincePacked < limit)
      isUpdating = !slice.isInterruptible
      return slice.count < 3000 ? .goOn : .stop
    }
    #expect(throws: TrainingInterruption.self) {
      try trainer.run(slices: slices) { Issue.record("\($0) is told too early") }
    }
    let count = 4096 * 4096
    #expect(trainer.account.divisor == (method == .supervised ? count / 2 * trainer.data.lossTotal : count))
    #expect(tokens > 0)
    // It can be stopped in the middle, and there is nothing to save yet.
    #expect(!isUpdating)
    #expect(try trainer.saveCheckpoint() == nil)
  }

  /// The loss is divided by the labelled tokens of the step's own rows, across the ends of epochs too.
  @Test(arguments: [1, 3, 5, 7, 12], [true, false])
  func theDivisorCountsEveryRow(rowsPerStep: Int, shuffle: Bool) throws {
    let setting = try TrainSetting(Self.small)
    let trainer = try setting.trainer(
      setting.rows([9, 12, 5, 7, 20]),
      TrainSetting.hyperparameters([
        "batch_size": .integer(rowsPerStep), "max_steps": 4, "lora_r": 1, "shuffle": .bool(shuffle),
      ]))
    for step in 0..<4 {
      let order = EpochOrder(count: 5, seed: trainer.hyperparameters.seed, shuffle: shuffle)
      let wanted = (step * rowsPerStep..<(step + 1) * rowsPerStep).reduce(0) {
        $0 + trainer.data.training[order.example(at: $1)].rows[0].lossCount
      }
      let slices = TestSlices { slice in
        if !slice.isInterruptible { #expect(trainer.account.divisor == wanted) }
        return trainer.step == step ? .goOn : .stop
      }
      try? trainer.run(slices: slices) { event in
        if case .metrics(let metrics) = event { #expect(metrics.lossTokens == wanted) }
      }
      #expect(trainer.step == step + 1)
    }
    trainer.run()
    #expect(trainer.state == .finished)
  }

  /// The order that is made in chunks is that of a plain sort by draw and index.
  @Test(arguments: [1, 2, 63, 64, 65, 1000, 70_000])
  func ordersAreSortedDraws(count: Int) {
    let keys = [0, 1].map { part in CounterKey(7, EpochOrder.Stream.shuffle.rawValue, 3, UInt64(part)) }
    let draws = (0..<count).map { UInt64(keys[0][UInt32($0)]) << 32 | UInt64(keys[1][UInt32($0)]) }
    let wanted = (0..<count).sorted { (draws[$0], $0) < (draws[$1], $1) }
    let order = EpochOrder(count: count, seed: 7, shuffle: true)
    #expect((0..<count).map { order.example(at: 3 * count + $0) } == wanted)
    #expect(
      EpochOrder(count: count, seed: 7, shuffle: true).countingSlices(epoch: 3) >= count / EpochOrder.chunkSize)
    #expect(order.countingSlices(epoch: 3) == 0)
  }

  /// What is looked at of all data is looked at once, not in each step.
  @Test func figuresOfTheDataAreFoundOnce() throws {
    let setting = try TrainSetting(Self.small)
    let hyperparameters = try TrainSetting.hyperparameters(["lora_r": 1])
    let data = try TrainingData(
      setting.rows([9, 12, 5]), validation: setting.rows([30]), hyperparameters: hyperparameters,
      model: setting.base.config)
    #expect(data.longestExample == 30 && data.longestRow == 30)
    #expect(data.lossTotal == data.training.reduce(0) { $0 + $1.rows[0].lossCount })
    #expect(data.lossCounts.map(Int.init) == data.training.map { $0.rows[0].lossCount })
  }

  /// The forecast does not grow with a step's rows, and counts the data.
  @Test func theForecastCountsTheData() throws {
    let setting = try TrainSetting(Self.small)
    func forecast(_ rows: Int, batch: Int) throws -> MemoryForecast {
      let hyperparameters = try TrainSetting.hyperparameters(["lora_r": 1, "batch_size": .integer(batch)])
      let data = try TrainingData(
        setting.rows(Array(repeating: 20, count: rows)), hyperparameters: hyperparameters, model: setting.base.config)
      return try MemoryForecast(base: setting.base, hyperparameters: hyperparameters, data: data)
    }
    let few = try forecast(10, batch: 1)
    #expect(try forecast(10, batch: 4096).extra == few.extra)
    let many = try forecast(1000, batch: 1)
    #expect(many.data >= few.data + 990 * 20 * 8)
    #expect(many.adapter == few.adapter && many.activations == few.activations)
  }
}
