public import Foundation

/// An adapter as PEFT or another program saved it, with the logits that PEFT computes (scripts/fixtures/adapter_fixtures.py).
public struct AdapterForm {
  public let folder: URL
  /// The model's name among `ArchitectureFixture.names`.
  public let model: String

  public init(_ name: String) throws {
    folder = modelFixture("adapter-forms/\(name)")
    model = try String(contentsOf: folder.appending(path: "model.txt"), encoding: .utf8)
  }

  public static let peft = [
    "saved-tables", "saved-norms", "saved-head-norms", "saved-norms-after", "saved-norms-gemma", "saved-embedding-tied",
    "saved-embedding-ensured", "lora-tables", "lora-embedding-alone", "lora-head-dora", "lora-bias", "base-biases",
    "base-biases-dora", "tokens-tied", "tokens-both", "ia3", "ia3-all", "ia3-fused", "set-a", "set-b",
  ]
  public static let foreign = ["gguf", "gguf-qwen", "gguf-phi", "pissa", "olora"]
}
