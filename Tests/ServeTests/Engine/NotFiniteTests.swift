import Formats
import Foundation
import Kernels
import Model
import TestSupport
import Testing

@testable import Serve

/// Requests whose numbers leave f32's range fail, and nobody else does.
@Suite struct NotFiniteTests {
  /// An adapter whose B is filled with a number.
  private func adapter(
    _ harness: EngineHarness, _ module: Projection, filledWith value: Float, mode: ComputeMode, name: String = "huge"
  ) throws -> Adapter {
    let model = harness.model
    let adapter = try model.writeAdapter(name, ranks: [module: 4], seed: 21)
    let tensors = adapter.modules.flatMap { module in
      let prefix = "base_model.model.\(module.projection.fullName(layer: module.layer))."
      return [
        (name: prefix + "lora_A.weight", shape: [module.rank, module.a.count / module.rank], values: module.a),
        (
          name: prefix + "lora_B.weight", shape: [module.b.count / module.rank, module.rank],
          values: [Float](repeating: value, count: module.b.count)
        ),
      ]
    }
    try SafetensorsWriter.write(tensors, to: adapter.folder.appending(path: "adapter_model.safetensors"))
    return try Adapter(peft: adapter.folder, base: try model.base(mode), mode: mode)
  }

  private func request(_ adapters: AdapterSet, _ length: Int, echo: Bool = false) -> GenerationRequest {
    GenerationRequest(
      prompt: EngineHarness.prompt(length, seed: UInt64(length)), adapters: adapters, maxTokens: echo ? 0 : 6,
      sampling: SamplingParameters(temperature: length % 2 == 0 ? 0 : 1, seed: 1), ignoresEndOfText: true,
      topLogprobs: 2, echoesPrompt: echo)
  }

  @Test(arguments: Projection.separate, [ComputeMode.f32, .fast])
  func aRequestWhoseNumbersAreNotFiniteFailsAlone(module: Projection, mode: ComputeMode) throws {
    let harness = try EngineHarness(mode: mode)
    // Queries and keys only move attention until their products leave the range.
    let value: Float = module == .q || module == .k ? 1e38 : 1e30
    let huge = AdapterSet([(try adapter(harness, module, filledWith: value, mode: mode), module == .q ? 1e3 : 1)])
    let others = [
      request(.none, 40), request(AdapterSet([(harness.adapters[0], 1)]), 33),
      request(AdapterSet([(harness.adapters[1], 0.5)]), 20, echo: true),
    ]
    let alone = others.flatMap { harness.run([$0]) }
    #expect(alone.allSatisfy { $0.error == nil })
    let bad = [request(huge, 40), request(huge, 1), request(huge, 50, echo: true)]
    let together = harness.run([bad[0], others[0], bad[1], others[1], others[2], bad[2]])
    #expect([together[1], together[3], together[4]] == alone)
    for index in [0, 2, 5] {
      #expect(together[index].error == .notFinite(hasAdapters: true), "request \(index)")
      #expect(together[index].tokens.isEmpty)
    }
    // Nothing that it computed is found by the next: neither its own kind nor another.
    #expect(harness.run([bad[0]])[0].error == .notFinite(hasAdapters: true))
    #expect(harness.run(others) == alone)
    #expect(harness.engine.metrics.snapshot.running == 0)
  }

  @Test func aLongPromptFailsInTheChunkThatIsBad() throws {
    let harness = try EngineHarness(rows: 16)
    let huge = AdapterSet([(try adapter(harness, .down, filledWith: 1e30, mode: .f32), 1)])
    let outcome = harness.run([request(huge, 120)])[0]
    #expect(outcome.error == .notFinite(hasAdapters: true))
    // The prompt's first chunk was enough to know.
    #expect(harness.computedRows <= 16)
  }

  @Test(arguments: [Float(1e38), -3e38])
  func aScaleIsEnough(scale: Float) throws {
    let harness = try EngineHarness()
    let outcome = harness.run([request(AdapterSet([(harness.adapters[0], scale)]), 20)])[0]
    #expect(outcome.error == .notFinite(hasAdapters: true))
  }

  @Test func valuesThatTheCacheCannotKeepAreNotFinite() throws {
    for (element, fails) in [(KeyValueLayout.Element.f16, true), (.f32, false)] {
      let harness = try EngineHarness(mode: .f32, element: element)
      // Keys far beyond f16's range, and far inside f32's.
      let large = AdapterSet([(try adapter(harness, .k, filledWith: 1e6, mode: .f32), 1)])
      #expect((harness.run([request(large, 20)])[0].error != nil) == fails)
    }
  }

  @Test func theErrorIsTheRequestsOwn() {
    let error = EngineError.notFinite(hasAdapters: true).apiError
    #expect(error.status == 400 && error.type == "invalid_request_error" && error.param == "adapter")
    #expect(error.message.contains("not finite") && error.message.contains("scales"))
    #expect(EngineError.notFinite(hasAdapters: false).apiError.status == 500)
  }

  @Test(arguments: [Float.nan, .infinity, -.infinity, 3.4e38])
  func weightsThatAreNoNumbersAreRefused(value: Float) throws {
    let harness = try EngineHarness(mode: .fast)
    #expect(throws: ModelError.self) { try adapter(harness, .v, filledWith: value, mode: .fast) }
  }
}
