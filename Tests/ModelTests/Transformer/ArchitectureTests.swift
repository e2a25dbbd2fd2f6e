import Formats
import Foundation
import Kernels
import Model
import TestSupport
import Testing

/// Llama's relatives against transformers and PEFT, from a Hugging Face folder and from GGUF.
@Suite struct ArchitectureTests {
  private func logits(
    _ base: Base, _ fixture: ArchitectureFixture, _ adapters: AdapterSet = .none, mode: ComputeMode = .f32,
    kernels: KernelSet = .best, chunk: Int? = nil
  ) throws -> [[Float]] {
    let runner = try ForwardRunner(base, mode: mode, kernels: kernels, context: fixture.contextLength)
    return runner.logits([(fixture.tokens, adapters)], chunk: { min($1, chunk ?? $1) })[0]
  }

  private func expectClose(
    _ logits: [[Float]], _ fixture: ArchitectureFixture, _ name: String, within tolerance: Float = 1e-3
  ) throws {
    let expected = try fixture.expected.floats(name)
    let values = Array(logits.joined())
    #expect(values.count == expected.count)
    let worst = zip(values, expected).reduce(Float(0)) { max($0, abs($1.0 - $1.1)) }
    #expect(worst < tolerance, "\(name)")
  }

  @Test(arguments: ArchitectureFixture.names)
  func aFolderGivesTransformersLogits(name: String) throws {
    let fixture = try ArchitectureFixture(name)
    let base = try fixture.base(fixture.source())
    try expectClose(try logits(base, fixture), fixture, "logits")
    let adapter = try Adapter(peft: fixture.adapter, base: base, mode: .f32)
    try expectClose(try logits(base, fixture, AdapterSet([(adapter, 1)])), fixture, "adapted")
  }

  @Test(arguments: ArchitectureFixture.ggufNames)
  func aGGUFFileGivesTransformersLogits(name: String) throws {
    let fixture = try ArchitectureFixture(name)
    let source = try openPublishedModel(at: try fixture.writeGGUF())
    let folder = try fixture.source()
    #expect(source.config.architecture == folder.config.architecture)
    #expect(source.config.slidingWindow == folder.config.slidingWindow)
    for tensor in fixture.tensorNames { #expect(try source.floats(tensor) == folder.floats(tensor), "\(tensor)") }
    let base = try fixture.base(source)
    try expectClose(try logits(base, fixture), fixture, "logits")
  }

  @Test(arguments: ArchitectureFixture.names, ComputeMode.allCases)
  func chunksAndInstructionSetsChangeNoBit(name: String, mode: ComputeMode) throws {
    let fixture = try ArchitectureFixture(name)
    let base = try fixture.base(fixture.source(), mode)
    let adapter = try Adapter(peft: fixture.adapter, base: base, mode: mode)
    let adapters = AdapterSet([(adapter, 1)])
    let whole = bits(try logits(base, fixture, adapters, mode: mode))
    for chunk in [1, 5] { #expect(bits(try logits(base, fixture, adapters, mode: mode, chunk: chunk)) == whole) }
    let scalar = try #require(KernelSet(.scalar))
    #expect(bits(try logits(base, fixture, adapters, mode: mode, kernels: scalar)) == whole)
    try expectClose(
      try logits(base, fixture, adapters, mode: mode), fixture, "adapted", within: mode == .f32 ? 1e-3 : 0.5)
  }
}
