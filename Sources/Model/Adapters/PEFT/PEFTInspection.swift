public import Formats
public import Foundation

/// What a PEFT folder says of itself, for a person who wants to know whether it can be loaded.
public struct PEFTInspection: Sendable, Equatable {
  /// The configuration's rank; `nil` if the configuration cannot be read.
  public private(set) var rank: Int?
  /// The configuration's alpha.
  public private(set) var alpha: Double?
  /// Short names of the modules that have tensors, sorted.
  public private(set) var targets: [String] = []
  /// The configuration's `base_model_name_or_path`.
  public private(set) var baseModel: String?
  /// Whether the adapter has DoRA's magnitudes.
  public private(set) var usesDoRA = false
  /// Whether scales are α / √rank.
  public private(set) var usesRSLoRA = false
  /// Bytes of the two files.
  public private(set) var bytes = 0
  /// Values of all tensors.
  public private(set) var parameters = 0
  /// Why the adapter cannot be loaded, each in one line; empty if nothing is wrong.
  public private(set) var problems: [String] = []

  /// Reads a folder. What is wrong is among `problems`.
  /// - Parameter config: the base's, with which every tensor's shape and value is checked; without it, only the
  ///   configuration and the names are
  public init(folder: URL, config: ModelConfig? = nil) {
    guard config != nil || !AdapterImport.needsBase(folder) else {
      problems = [Self.needsBase]
      return
    }
    guard config == nil ? AdapterImport.isRewrittenWithoutBase(folder) : AdapterImport.isNeeded(folder) else {
      inspect(folder, config)
      return
    }
    // What is loaded is what an adapter in another form is rewritten as.
    var found = self
    note { _ in
      try AdapterImport.withPEFTFolder(folder, config: Self.known(config)) { found.inspect($0, config) }
    }
    if problems.isEmpty { self = found }
  }

  private static let needsBase = "is in another form than PEFT's, which can be read only together with its base"

  private static func known(_ config: ModelConfig?) throws -> ModelConfig {
    guard let config else { throw ModelError("adapter", reason: needsBase) }
    return config
  }

  private mutating func inspect(_ folder: URL, _ config: ModelConfig?) {
    note { _ in try PEFTFolder.check(folder) }
    guard problems.isEmpty else { return }
    var wantsBiases = false
    note { found in
      let file = folder.appending(path: PEFTFolder.configurationFile)
      let text = try MappedFile.contents(of: file, limit: Self.configurationLimit)
      found.bytes += text.count
      let peft = try PEFTConfig(text, file: PEFTFolder.configurationFile, scope: .all)
      (found.rank, found.alpha, found.baseModel) = (peft.rank, peft.alpha, peft.baseModel)
      (found.usesDoRA, found.usesRSLoRA) = (peft.usesDoRA, peft.usesRSLoRA)
      wantsBiases = peft.usesLoRABias
    }
    note { found in
      try PEFTFolder.checkWeights(folder)
      let file = try SafetensorsFile(folder.appending(path: PEFTFolder.weightsFile))
      found.bytes += try file.url.resourceValues(forKeys: [.fileSizeKey]).fileSize ?? 0
      found.parameters = file.tensors.values.reduce(0) { $0 + $1.elementCount }
      found.targets = Set(file.tensors.keys.compactMap(Self.module)).sorted()
      if wantsBiases { try Self.checkBiases(file) }
    }
    if let config, problems.isEmpty {
      note { _ in
        let reader = try PEFTReader(folder: folder, config: config, scope: .all)
        for target in reader.projections { _ = try reader.update(target) }
      }
    }
  }

  /// Every B of a linear module must have a bias beside it.
  private static func checkBiases(_ file: SafetensorsFile) throws {
    let names = Set(file.tensors.keys.compactMap(PEFTTensorName.saved))
    let weight = "." + PEFTTensorName.Part.b.rawValue
    for name in names.sorted() where name.hasSuffix(weight) {
      let bias = name.dropLast(weight.count) + PEFTTensorName.biasSuffix
      guard names.contains(String(bias)) else {
        throw ModelError(file.url.lastPathComponent, String(bias), reason: "missing, although lora_bias is set")
      }
    }
  }

  private static let configurationLimit = 4 << 20

  private mutating func note(_ body: (inout PEFTInspection) throws -> Void) {
    do { try body(&self) } catch { problems.append("\(error)") }
  }

  /// "q_proj" of "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight".
  private static func module(_ tensor: String) -> String? {
    let parts = tensor.split(separator: ".")
    let kinds = ["lora_", "ia3_l", "token_adapter"]
    guard let part = parts.firstIndex(where: { part in kinds.contains { part.hasPrefix($0) } }), part > 0 else {
      return nil
    }
    return String(parts[part - 1])
  }
}
