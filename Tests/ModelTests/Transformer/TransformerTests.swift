import Formats
import Foundation
import Kernels
import Model
import TestSupport
import Testing

@Suite struct TransformerTests {
  /// A model, three adapters of mixed ranks on it, and sequences longer than a cache block.
  private struct Setting {
    let model: TinyModel
    let base: Base
    let adapters: [TinyAdapter]
    let loaded: [Adapter]
    let sequences: [ForwardRunner.Sequence]

    init(_ shape: TinyShape = TinyShape(), mode: ComputeMode = .f32, unquantized: Set<String>? = nil) throws {
      model = try TinyModel(shape, unquantized: unquantized)
      base = try model.base(mode)
      let all = Dictionary(uniqueKeysWithValues: Projection.separate.map { ($0, 8) })
      adapters = [
        try model.writeAdapter("all", ranks: all, seed: 11),
        try model.writeAdapter("mixed", ranks: [.q: 3, .v: 17, .o: 1, .down: 32], alpha: 8, seed: 12),
        try model.writeAdapter("mlp", ranks: [.gate: 16, .up: 5], alpha: 4, seed: 13),
      ]
      let base = base
      loaded = try adapters.map { try Adapter(peft: $0.folder, base: base, mode: mode) }
      var random = TinyRandom(seed: 7)
      let sets: [AdapterSet] = [
        .none, AdapterSet([(loaded[0], 1)]), AdapterSet([(loaded[1], 0.5)]),
        AdapterSet([(loaded[0], 0.7), (loaded[2], -0.3)]), AdapterSet([(loaded[1], 1)]),
      ]
      sequences = sets.enumerated().map { index, set in
        let tokens = (0..<[37, 1, 70, 33, 5][index]).map { _ in Int32.random(in: 0..<300, using: &random) }
        return (tokens, set)
      }
    }
  }

  private func expectClose(_ logits: [[Float]], _ expected: [[Double]], _ what: Comment) {
    #expect(logits.count == expected.count)
    var worst = 0.0
    for (row, wanted) in zip(logits, expected) {
      for (value, reference) in zip(row, wanted) { worst = max(worst, abs(Double(value) - reference)) }
    }
    let largest = expected.joined().map(abs).max() ?? 0
    #expect(largest > 1)
    #expect(worst < 2e-5 * largest, what)
  }

  /// Of two layers, some of a stack, all of it, and a stack of one module.
  static let unquantized = Set(
    [
      "0.mlp.up_proj", "1.self_attn.q_proj", "1.self_attn.v_proj", "1.mlp.gate_proj", "1.mlp.up_proj",
      "1.mlp.down_proj",
    ]
    .map { "model.layers.\($0).weight" })

  @Test(
    arguments: [
      (TinyShape(), nil), (TinyShape(isTied: true), nil),
      (TinyShape(hidden: 100, heads: 5, keyValueHeads: 1, headSize: 20), nil), (TinyShape(), Set<String>()),
      (TinyShape(), Self.unquantized),
      (TinyShape(hidden: 100, heads: 5, keyValueHeads: 1, headSize: 20), Self.unquantized),
    ] as [(TinyShape, Set<String>?)])
  func logitsAreThoseOfAPlainReference(shape: TinyShape, unquantized: Set<String>?) throws {
    let setting = try Setting(shape, unquantized: unquantized)
    let reference = try LlamaReference(setting.model, config: setting.base.config)
    let results = try ForwardRunner(setting.base).logits(setting.sequences)
    let terms: [[(adapter: TinyAdapter, weight: Double)]] = [
      [], [(setting.adapters[0], 1)], [(setting.adapters[1], 0.5)],
      [(setting.adapters[0], Double(Float(0.7))), (setting.adapters[2], Double(Float(-0.3)))],
      [(setting.adapters[1], 1)],
    ]
    for index in results.indices {
      expectClose(
        results[index], reference.logits(setting.sequences[index].tokens, terms[index]), "sequence \(index)")
    }
    // Without its adapter the sequence computes something else, so the adapters above do count.
    let bare = reference.logits(setting.sequences[2].tokens)
    #expect(zip(results[2].joined(), bare.joined()).contains { abs(Double($0) - $1) > 0.1 })
  }

  @Test(arguments: ComputeMode.allCases, KeyValueLayout.Element.allCases)
  func companyAndChunksChangeNoBit(mode: ComputeMode, element: KeyValueLayout.Element) throws {
    try checkInvariance(try Setting(mode: mode), mode, element)
  }

  /// Every instruction set of the machine, the scalar one among them, which defines what the others compute.
  @Test(arguments: InstructionSet.allCases.filter { KernelSet($0) != nil }, [KeyValueLayout.Element.f16, .int16])
  func companyAndChunksChangeNoBitWithAnyInstructionSet(set: InstructionSet, element: KeyValueLayout.Element) throws {
    try checkInvariance(try Setting(mode: .fast), .fast, element, kernels: try #require(KernelSet(set)))
  }

  @Test(arguments: ComputeMode.allCases)
  func companyAndChunksChangeNoBitBesideUnquantizedModules(mode: ComputeMode) throws {
    try checkInvariance(
      try Setting(mode: mode, unquantized: Self.unquantized), mode, mode.keyValueElement)
  }

  private func checkInvariance(
    _ setting: Setting, _ mode: ComputeMode, _ element: KeyValueLayout.Element,
    kernels: KernelSet = .best
  ) throws {
    let runner = try ForwardRunner(setting.base, mode: mode, kernels: kernels, threads: 2, element: element)
    let alone = setting.sequences.map { bits(runner.logits([$0])[0]) }
    #expect(runner.logits(setting.sequences).map { bits($0) } == alone)
    var random = TinyRandom(seed: 3)
    for round in 0..<6 {
      let results = runner.logits(
        setting.sequences, order: { $0.shuffled(using: &random) },
        chunk: { _, left in Int.random(in: 0...min(left, [1, 3, 9, 40][round % 4]), using: &random) })
      #expect(results.map { bits($0) } == alone, "round \(round)")
    }
  }

  @Test(arguments: ComputeMode.allCases)
  func threadsAndInstructionSetChangeNoBit(mode: ComputeMode) throws {
    let setting = try Setting(mode: mode)
    let wanted = try ForwardRunner(setting.base, mode: mode).logits(setting.sequences).map { bits($0) }
    for threads in 2...3 {
      let runner = try ForwardRunner(setting.base, mode: mode, threads: threads)
      #expect(runner.logits(setting.sequences).map { bits($0) } == wanted, "\(threads) threads")
    }
    for kernels in InstructionSet.allCases.compactMap(KernelSet.init) {
      let results = try ForwardRunner(setting.base, mode: mode, kernels: kernels).logits(setting.sequences)
      #expect(results.map { bits($0) } == wanted, "\(kernels.instructionSet)")
    }
  }

  @Test func theOrderOfTermsChangesNoBit() throws {
    let setting = try Setting()
    let runner = try ForwardRunner(setting.base)
    let terms: [(adapter: Adapter, weight: Float)] = [
      (setting.loaded[0], 0.3), (setting.loaded[1], 0.9), (setting.loaded[2], -0.4), (setting.loaded[1], 0.1),
    ]
    let tokens = setting.sequences[0].tokens
    let wanted = bits(runner.logits([(tokens, AdapterSet(terms))])[0])
    for order in [[3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1]] {
      let set = AdapterSet(order.map { terms[$0] })
      #expect(set == AdapterSet(terms))
      #expect(bits(runner.logits([(tokens, set)])[0]) == wanted)
    }
    #expect(bits(runner.logits([(tokens, AdapterSet(Array(terms.dropLast())))])[0]) != wanted)
  }

  @Test func onlyTheWantedLogitsAreGivenInOrder() throws {
    let setting = try Setting()
    let runner = try ForwardRunner(setting.base)
    let tokens = setting.sequences[0].tokens
    let all = runner.logits([(tokens, .none)])[0]
    var (a, b) = (BlockTable(), BlockTable())
    #expect(runner.cache.extend(&a, to: 37) && runner.cache.extend(&b, to: 37))
    let batch = ForwardBatch(segments: [
      .init(tokens: tokens, position: 0, table: a, adapters: .none, logits: 3..<6),
      .init(tokens: Array(tokens[..<9]), position: 0, table: b, adapters: .none, logits: 0..<0),
      .init(tokens: Array(tokens[9...]), position: 9, table: b, adapters: .none, logits: 27..<28),
    ])
    #expect(batch.logitRowCount == 4)
    runner.transformer.forward(batch, cache: runner.cache) { logits, ld in
      for (row, position) in [3, 4, 5, 36].enumerated() {
        let values = Array(UnsafeBufferPointer(start: logits + row * ld, count: 300))
        #expect(bits(values) == bits(all[position]), "position \(position)")
      }
    }
  }
}
