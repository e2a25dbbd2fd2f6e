import Formats
import Foundation
import Kernels
import TestSupport
import Testing

@testable import Model

/// An adapter's form with its model, and the logits that PEFT computes.
struct AdapterFormSetting {
  let form: AdapterForm
  let fixture: ArchitectureFixture
  let tokens: [Int32]
  let expected: [Float]

  init(_ name: String) throws {
    form = try AdapterForm(name)
    fixture = try ArchitectureFixture(form.model)
    let file = try SafetensorsFile(form.folder.appending(path: "expected.safetensors"))
    expected = try file.floats("logits")
    tokens = try file.bytes("tokens").withUnsafeBytes { Array($0.bindMemory(to: Int32.self)) }
  }

  func base(_ mode: ComputeMode = .f32) throws -> Base { try fixture.base(fixture.source(), mode) }

  /// The adapter, mapped from the file that is prepared of it in a copy of its folder.
  /// - Parameter source: instead of the form's own folder
  func adapter(_ base: Base, _ mode: ComputeMode = .f32, of source: URL? = nil) throws -> Adapter {
    let source = source ?? form.folder
    let copy = try TemporaryFolder()
    let folder = copy.url.appending(path: "adapter")
    if AdapterImport.isNeeded(source) {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      #expect(try AdapterImport.rewrite(source, to: folder, config: base.config))
    } else {
      try FileManager.default.copyItem(at: source, to: folder)
    }
    defer { copy.remove() }
    let hash = form.folder.lastPathComponent
    let (adapter, failure) = try AdapterPreparer(base: base, mode: mode).prepare(folder, hash: hash)
    #expect(failure == nil)
    let converted = try Adapter(peft: folder, hash: hash, base: base, mode: mode)
    #expect(adapter.bytes == converted.bytes && adapter.targets == converted.targets)
    return adapter
  }

  func logits(_ base: Base, _ adapters: AdapterSet, mode: ComputeMode = .f32, chunk: Int? = nil) throws -> [[Float]] {
    let runner = try ForwardRunner(base, mode: mode, context: fixture.contextLength)
    return runner.logits([(tokens, adapters)], chunk: { min($1, chunk ?? $1) })[0]
  }

  func worst(_ logits: [[Float]]) -> Float {
    zip(logits.joined(), expected).reduce(0) { max($0, abs($1.0 - $1.1)) }
  }

  /// The largest difference, relative to the largest logit.
  func error(_ logits: [[Float]]) -> Float {
    let largest = expected.map(abs).max() ?? 0
    #expect(largest > 1 && logits.joined().allSatisfy(\.isFinite))
    return worst(logits) / largest
  }
}
