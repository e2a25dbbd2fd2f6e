import Formats
import Foundation

/// A PEFT configuration beside tensors with torchtune's own names, "layers.0.attn.q_proj.lora_a.weight". The rows of Llama's
/// q and k are in the order of torchtune's rotary embedding, where pairs are neighbours.
struct TorchtuneAdapter {
  private let file: SafetensorsFile
  private let names: [String: String]
  private let config: ModelConfig
  private let configuration: [UInt8]

  private static let configurationLimit = 4 << 20
  private static let modules = [
    "attn.q_proj": "self_attn.q_proj", "attn.k_proj": "self_attn.k_proj", "attn.v_proj": "self_attn.v_proj",
    "attn.output_proj": "self_attn.o_proj", "mlp.w1": "mlp.gate_proj", "mlp.w3": "mlp.up_proj",
    "mlp.w2": "mlp.down_proj",
  ]

  /// Whether a folder's tensors have torchtune's names.
  static func isOne(_ folder: URL) -> Bool {
    guard let file = try? SafetensorsFile(folder.appending(path: PEFTFolder.weightsFile)) else { return false }
    return file.tensors.keys.contains { $0.hasPrefix("layers.") && $0.hasSuffix(".lora_a.weight") }
  }

  /// - Parameter config: the base's
  /// - Throws: `ModelError` naming a tensor that is no factor
  init(_ folder: URL, config: ModelConfig) throws {
    self.config = config
    let file = try SafetensorsFile(folder.appending(path: PEFTFolder.weightsFile))
    var names: [String: String] = [:]
    for name in file.tensors.keys {
      guard let saved = Self.saved(name) else {
        throw ModelError(file.url.lastPathComponent, name, reason: "is no factor that torchtune writes")
      }
      names[name] = saved
    }
    self.file = file
    self.names = names
    configuration = try MappedFile.contents(
      of: folder.appending(path: PEFTFolder.configurationFile), limit: Self.configurationLimit)
  }

  /// PEFT's name of a tensor; `nil` if torchtune does not write it.
  private static func saved(_ name: String) -> String? {
    let parts = name.split(separator: ".").map(String.init)
    let factor = ["lora_a": "lora_A.weight", "lora_b": "lora_B.weight", "magnitude": "lora_magnitude_vector"]
    if parts.count == 3, parts[0] == "output", parts[2] == "weight" {
      return factor[parts[1]].map { "\(PEFTTensorName.prefix)lm_head.\($0)" }
    }
    guard parts.count >= 5, parts[0] == "layers", Int(parts[1]) != nil, let part = factor[parts[4]],
      parts.count == (parts[4] == "magnitude" ? 5 : 6), let module = modules["\(parts[2]).\(parts[3])"]
    else { return nil }
    return "\(PEFTTensorName.prefix)model.layers.\(parts[1]).\(module).\(part)"
  }

  /// Writes both files of a PEFT folder.
  /// - Throws: `ModelError` naming the tensor that has the wrong shape, or the file that cannot be written
  func write(to folder: URL) throws {
    let sources = Dictionary(names.map { ($0.value, $0.key) }, uniquingKeysWith: { first, _ in first })
    let tensors = try sources.map { saved, name in (name: saved, shape: try file.tensor(name).shape) }
    try PEFTWriter.write(configuration: configuration, tensors: tensors, to: folder) { saved in
      let tensor = try file.tensor(sources[saved] ?? "")
      let values = try file.floats(tensor.name)
      guard let heads = permutedHeads(saved) else { return values }
      guard let outputs = tensor.shape.first, outputs > 0, outputs % (2 * heads) == 0 else {
        throw ModelError(file.url.lastPathComponent, saved, reason: "shape \(tensor.shape) for \(heads) heads")
      }
      return GGUFAdapter.unpermuted(values, heads: heads, outputs: outputs)
    }
  }

  /// How many heads a tensor's rows make; `nil` for rows in order. torchtune permutes for Llama and Mistral only.
  private func permutedHeads(_ name: String) -> Int? {
    let architecture = config.architecture
    guard !name.contains("lora_A"), architecture.biases.isEmpty, architecture.queryKeyNorm == .none,
      architecture.norms == .before, !architecture.isFused
    else { return nil }
    return name.contains(".q_proj.") ? config.headCount : name.contains(".k_proj.") ? config.keyValueHeadCount : nil
  }
}
