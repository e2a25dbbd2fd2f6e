import Formats
import Foundation
import Kernels
import Model
import TestSupport
import Testing

@testable import Train

@Suite struct HyperparametersTests {
  private func parse(_ text: String, _ method: Hyperparameters.Method = .supervised) throws -> Hyperparameters {
    let json = try JSONValue.parse(text.utf8, subject: "test").object ?? JSONObject(keepingFirst: [])
    return try Hyperparameters(json: json, method: method)
  }

  @Test func autoIsTheDefault() throws {
    let names = Hyperparameters.names.filter { $0 != "beta" }
    let all = "{" + names.map { "\"\($0)\":\"auto\"" }.joined(separator: ",") + "}"
    #expect(try parse(all) == Hyperparameters())
    let defaults = Hyperparameters()
    #expect(defaults.loraR == 16 && defaults.loraAlpha == 32 && defaults.learningRate == 2e-4)
    #expect(defaults.effectiveWarmupRatio == 0.03 && defaults.scheduler == .cosine)
    #expect(try parse(#"{"scheduler":"constant"}"#).effectiveWarmupRatio == 0)
    #expect(try parse(#"{"learning_rate_multiplier":0.5}"#).learningRate == 1e-4)
  }

  @Test func whatIsWrittenReadsBack() throws {
    let one = try parse(
      #"{"n_epochs":2,"max_steps":7,"learning_rate":1e-3,"target_modules":["q_proj"],"rank_pattern":{"q_proj":4},"#
        + #""layers_to_transform":[0,1],"warmup_ratio":0.1,"packing":false,"init_adapter":"a"}"#)
    let text = String(decoding: JSONValue.object(one.json).encoded, as: UTF8.self)
    let two = try parse(text.replacingOccurrences(of: ",\"beta\":0.1", with: ""))
    #expect(two.json == one.json)
    #expect(two.rankPattern == ["q_proj": 4] && two.maxSteps == 7 && !two.packing)
  }

  @Test(arguments: [
    (#"{"n_epochs":0}"#, "n_epochs"), (#"{"batch_size":2.5}"#, "batch_size"), (#"{"lora_dropout":1}"#, "lora_dropout"),
    (#"{"learning_rate":-1}"#, "learning_rate"), (#"{"scheduler":"step"}"#, "scheduler"), (#"{"lora_r":0}"#, "lora_r"),
    (#"{"lora_r":513}"#, "lora_r"), (#"{"rank_pattern":{"q_proj":513}}"#, "rank_pattern"),
    (#"{"rank_pattern":{"q":0.5}}"#, "rank_pattern"), (#"{"target_modules":[]}"#, "target_modules"),
    (#"{"epochs":3}"#, "epochs"), (#"{"packing":1}"#, "packing"), (#"{"beta":0.1}"#, "beta"),
    (#"{"learning_rate":1e-4,"learning_rate_multiplier":1}"#, "learning_rate_multiplier"),
    (#"{"layers_to_transform":["a"]}"#, "layers_to_transform"), (#"{"max_seq_length":1}"#, "max_seq_length"),
    (#"{"n_epochs":9223372036854775807}"#, "n_epochs"), (#"{"init_adapter":3}"#, "init_adapter"),
  ])
  func refusedByName(text: String, field: String) throws {
    let error = #expect(throws: HyperparameterError.self) { try parse(text) }
    #expect(error?.field == field)
  }

  /// What is declared is what can be trained.
  @Test func ranksReachTheHighestThatIsTrained() throws {
    let setting = try TrainSetting()
    let settings = try parse(#"{"lora_r":512,"rank_pattern":{"v_proj":512,"q_proj":1}}"#)
    #expect(Set(try settings.targets(setting.base.config).map(\.rank)) == [1, 512])
    let error = #expect(throws: HyperparameterError.self) { try parse(#"{"lora_r":513}"#) }
    #expect(error?.reason.contains("1 and 512") == true)
  }

  /// Values of transformers 5's `get_cosine_schedule_with_warmup` and `get_linear_schedule_with_warmup`, 10 steps, 2
  /// of warmup.
  @Test func schedulesAreTransformers() throws {
    func rates(_ scheduler: String) throws -> [Double] {
      let schedule = LearningRateSchedule(
        try parse("{\"scheduler\":\"\(scheduler)\",\"learning_rate\":1,\"warmup_ratio\":0.15}"), totalSteps: 10)
      #expect(schedule.warmupSteps == 2)
      return (0..<10).map { schedule.rate(step: $0) }
    }
    func close(_ a: [Double], _ b: [Double]) -> Bool { zip(a, b).allSatisfy { abs($0 - $1) < 1e-6 } }
    #expect(try close(rates("linear"), [0, 0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]))
    #expect(
      try close(
        rates("cosine"), [0, 0.5, 1, 0.9619398, 0.8535534, 0.6913417, 0.5, 0.3086583, 0.1464466, 0.0380602]))
    #expect(try close(rates("constant"), [0, 0.5, 1, 1, 1, 1, 1, 1, 1, 1]))
  }

  /// torch.optim.AdamW in f64: three steps from 1 with gradients 0.5, −2, 0.1; rate 0.1, decay 0.01, betas 0.9, 0.99.
  @Test func adamWIsTorchs() throws {
    let compute = Compute(pool: ThreadPool(threads: 1))
    let count = 37
    let buffers = (0..<4).map { _ in AlignedBuffer<Float>(count: count) }
    for i in 0..<count { buffers[0][i] = 1 }
    var (p, m, v) = (1.0, 0.0, 0.0)
    for (step, gradient) in [0.5, -2, 0.1].enumerated() {
      for i in 0..<count { buffers[1][i] = Float(gradient * 4) }
      compute.adamW(
        AdamWStep(
          learningRate: 0.1, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.01, count: step + 1,
          gradientFactor: 0.25),
        parameters: buffers[0].pointer, gradients: buffers[1].pointer, mean: buffers[2].pointer,
        variance: buffers[3].pointer, count: count)
      p *= 1 - 0.1 * 0.01
      m = 0.9 * m + 0.1 * gradient
      v = 0.99 * v + 0.01 * gradient * gradient
      let corrected = m / (1 - pow(0.9, Double(step + 1)))
      p -= 0.1 * corrected / ((v / (1 - pow(0.99, Double(step + 1)))).squareRoot() + 1e-8)
      for i in 0..<count { #expect(abs(Double(buffers[0][i]) - p) < 1e-6) }
    }
  }

  @Test func anAdapterThatContradictsIsRefused() throws {
    let setting = try TrainSetting()
    let adapter = try setting.model.writeAdapter("a", ranks: [.q: 4, .v: 4], alpha: 8, seed: 3)
    func make(_ pairs: KeyValuePairs<String, JSONValue>) throws -> Trainer {
      try setting.trainer(setting.rows([9]), TrainSetting.hyperparameters(pairs), initial: adapter.folder)
    }
    #expect(try make([:]).adapter.projections.count == 4)
    #expect(try make(["lora_alpha": 8]).adapter.projections.allSatisfy { $0.scale == 2 })
    // The same in other words, and what only together is the same.
    let same: [[(String, JSONValue)]] = [
      [("use_dora", false)], [("target_modules", ["v_proj", "q_proj"])],
      [("target_modules", ["self_attn.q_proj", "v_proj"])], [("exclude_modules", ["k_proj"])],
      [("layers_to_transform", [0, 1])], [("target_modules", #".*\.(q|v)_proj"#)],
      [("target_modules", "all-linear"), ("exclude_modules", #".*\.([ko]_proj|mlp\..*)"#)],
    ]
    for settings in same {
      let pairs = settings.map { (key: $0.0, value: $0.1) }
      let hyperparameters = try Hyperparameters(json: JSONObject(keepingFirst: pairs))
      let trainer = try setting.trainer(setting.rows([9]), hyperparameters, initial: adapter.folder)
      #expect(trainer.adapter.projections.count == 4, "\(settings)")
    }
    let different: [(String, JSONValue)] = [
      ("lora_r", 4), ("use_dora", true), ("target_modules", ["q_proj"]), ("exclude_modules", ["v_proj"]),
      ("layers_to_transform", [0]), ("rank_pattern", ["q_proj": 2]), ("alpha_pattern", ["v_proj": 3]),
    ]
    for (field, value) in different {
      let error = #expect(throws: HyperparameterError.self) { try make([field: value]) }
      #expect(error?.field == field && error?.reason.contains("contradicts init_adapter, which has") == true)
    }
  }

  @Test(
    arguments: [
      ("target_modules", ["q_proj", "foo"], "'foo'"), ("target_modules", "foo", "'foo'"),
      ("exclude_modules", ["bar"], "'bar'"), ("layers_to_transform", [0, 2], "layer 2"),
      ("rank_pattern", ["foo": 2], "'foo'"), ("alpha_pattern", ["foo": 2], "'foo'"),
      ("exclude_modules", ".*", "leaves no module"),
    ] as [(String, JSONValue, String)])
  func whatMatchesNothingIsNamed(field: String, value: JSONValue, culprit: String) throws {
    let setting = try TrainSetting()
    let error = #expect(throws: HyperparameterError.self) {
      try TrainSetting.hyperparameters([field: value]).targets(setting.base.config)
    }
    #expect(error?.field == field && error?.reason.contains(culprit) == true)
    if field == "target_modules" { #expect(error?.reason.contains("q_proj, k_proj") == true) }
  }

  /// A pattern that is a module's name alone would match nothing.
  @Test func oneNameIsAList() throws {
    let setting = try TrainSetting()
    let targets = try TrainSetting.hyperparameters(["target_modules": "v_proj"]).targets(setting.base.config)
    #expect(targets.map(\.projection) == [.v, .v])
  }

  @Test func dataIsCutCheckedAndSplit() throws {
    let setting = try TrainSetting()
    let hyperparameters = try TrainSetting.hyperparameters(["max_seq_length": 8, "validation_split": .number(0.25)])
    var examples = setting.rows([9, 12, 5, 7, 6, 8, 8, 4])
    let silent = TrainingRow(tokens: [1, 2, 3], labels: [1, -100, -100])
    examples.append(.row(silent))
    let data = try TrainingData(examples, hyperparameters: hyperparameters, model: setting.base.config)
    #expect(data.cutCount == 2 && data.lossless == 1 && data.longestRow <= 8)
    #expect(data.validation.count == 2 && data.training.count == 6)
    #expect(data.validation.allSatisfy { !data.training.contains($0) })
    for wrong in [
      TrainingRow(tokens: [1, 90], labels: [1, 2]), TrainingRow(tokens: [1, 2], labels: [1, 90]),
      TrainingRow(tokens: [1, 2], labels: [1]), TrainingRow(tokens: [-1, 2], labels: [1, 2]),
    ] {
      #expect(throws: ModelError.self) {
        try TrainingData(
          examples + [.row(wrong)], hyperparameters: hyperparameters, model: setting.base.config)
      }
    }
    #expect(throws: ModelError.self) {
      try TrainingData([.row(silent)], hyperparameters: hyperparameters, model: setting.base.config)
    }
  }

  @Test func epochsAreShuffledAndWhole() {
    let order = EpochOrder(count: 7, seed: 3, shuffle: true)
    let taken = (0..<21).map { order.example(at: $0) }
    for epoch in 0..<3 { #expect(Set(taken[epoch * 7..<epoch * 7 + 7]) == Set(0..<7)) }
    #expect(taken[0..<7] != taken[7..<14])
    let again = EpochOrder(count: 7, seed: 3, shuffle: true)
    #expect(again.example(at: 16) == taken[16])
    let plain = EpochOrder(count: 7, seed: 3, shuffle: false)
    #expect((0..<9).map { plain.example(at: $0) } == [0, 1, 2, 3, 4, 5, 6, 0, 1])
  }

  /// However it is made in chunks, an order is that of the draws, ties by index.
  @Test(arguments: [1, 2, 63, 64, 65, 1000, 40_000])
  func anOrderIsThatOfItsDraws(count: Int) {
    let keys = [0, 1].map { CounterKey(11, EpochOrder.Stream.shuffle.rawValue, 2, $0) }
    let draws = (0..<UInt32(count)).map { UInt64(keys[0][$0]) << 32 | UInt64(keys[1][$0]) }
    let sorted = (0..<count).sorted { (draws[$0], $0) < (draws[$1], $1) }
    #expect(EpochOrder.permutation(count: count, seed: 11, stream: .shuffle, epoch: 2) == sorted)
    let order = EpochOrder(count: count, seed: 11, shuffle: true)
    let slices = order.countingSlices(epoch: 2)
    #expect((0..<count).map { order.example(at: 2 * count + $0) } == sorted)
    #expect(order.countingSlices(epoch: 2) == 0, "it is known now")
    #expect(slices >= 3 * (count / EpochOrder.chunkSize))
  }

  @Test func aRowsRunsAreItsTokens() {
    let ignored = TrainingRow.ignored
    let table: [(labels: [Int32], runs: [([Int32], Bool)])] = [
      ([], []), ([10], [([10], false)]), ([10, 11], [([10], false), ([11], true)]),
      ([ignored, ignored, 12, 13, ignored, 15], [([10, 11], false), ([12, 13], true), ([14], false), ([15], true)]),
    ]
    for (labels, expected) in table {
      let tokens = (0..<labels.count).map { Int32(10 + $0) }
      let row = TrainingRow(tokens: tokens, labels: labels)
      #expect(row.runs.map(\.tokens) == expected.map(\.0) && row.runs.map(\.isLearnt) == expected.map(\.1))
      #expect(row.runs.filter(\.isLearnt).reduce(0) { $0 + $1.tokens.count } == row.lossCount)
    }
  }

  @Test func stepsAreCountedUp() throws {
    var settings = Hyperparameters()
    settings.batchSize = 4
    settings.nEpochs = 3
    for (examples, steps) in [(1, 1), (4, 3), (5, 4), (36, 27)] {
      #expect(try settings.totalSteps(examples: examples) == steps)
    }
    settings.nEpochs = .max
    #expect(throws: HyperparameterError.self) { try settings.totalSteps(examples: 2) }
    settings.maxSteps = 7
    #expect(try settings.totalSteps(examples: 2) == 7)
  }
}
