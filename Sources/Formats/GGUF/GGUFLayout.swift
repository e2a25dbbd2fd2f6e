/// How llama.cpp's files name and order the tensors of a model: what a file that is written needs to know.
public struct GGUFLayout: Sendable {
  /// `general.architecture`.
  public let architecture: String
  /// llama.cpp reads a head that is not the embedding.
  public let canUntieHead: Bool
  private let config: ModelConfig
  private let permutesQueriesAndKeys: Bool

  /// - Parameter config: the model's, of any format
  public init(_ config: ModelConfig) {
    self.config = config
    architecture = Self.name(config)
    let family = GGUFFamily.all[architecture]
    permutesQueriesAndKeys = family?.permutesQueriesAndKeys ?? false
    canUntieHead = family?.alwaysTiesHead == false
  }

  /// The architecture's name follows from what distinguishes the model from Llama's.
  private static func name(_ config: ModelConfig) -> String {
    let architecture = config.architecture
    if architecture.isFused { return "phi3" }
    switch (architecture.norms, architecture.queryKeyNorm) {
    case (.after, _): return "olmo2"
    case (.both, .none): return "gemma2"
    case (.both, _): return "gemma3"
    case (.before, .none): break
    case (.before, _): return "qwen3"
    }
    if !architecture.layersWithoutRoPE.isEmpty { return "smollm3" }
    let hasMultipliers =
      architecture.embeddingMultiplier != 1 || architecture.residualMultiplier != 1
      || architecture.logitMultiplier != 1 || architecture.attentionScale != nil
    if hasMultipliers { return "granite" }
    // Llama has biases of the output projection, too, or none.
    return architecture.biases == [.q, .k, .v] ? "qwen2" : "llama"
  }

  /// The file's name of a tensor.
  /// - Parameter name: Hugging Face's, "model.layers.0.self_attn.q_proj.weight"
  public func name(of name: String) -> String { GGUFNames.fileName(of: name, config.architecture) }

  /// The row of the file's matrix, or the element of its bias, that holds one of Hugging Face's.
  public func row(_ row: Int, of projection: Projection) -> Int {
    permutes(projection) ? GGUFModel.permutedRow(row, headSize: config.headSize) : row
  }

  /// Whether the rows of a projection are in another order than Hugging Face's.
  public func permutes(_ projection: Projection) -> Bool {
    permutesQueriesAndKeys && (projection == .q || projection == .k)
  }
}
