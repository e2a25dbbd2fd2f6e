import Kernels

/// What llama.cpp computes and assumes for a `general.architecture`: the constant parts of the architecture, the keys that say
/// more, and the values of absent keys.
struct GGUFFamily: Sendable {
  var architecture = Architecture()
  /// The rows of q and k are in the order of GGUF's own rotary embedding.
  var permutesQueriesAndKeys = false
  /// The head is the embedding, and a tensor of its own is not read.
  var alwaysTiesHead = false
  /// `rope.dimension_count` may be less than the head size.
  var rotatesPartly = false
  /// The keys, after the architecture's name, that other architectures do not have.
  var keys: Set<String> = []
  /// The sliding window of files that do not say one.
  var window: Int?
  /// Of so many layers, all but the last attend within the window; `nil` for all layers.
  var windowPattern: Int?
  /// Layers with a window have a rotary embedding of their own, with this θ unless the file says another.
  var localTheta: Float?
  /// Reads what else the metadata says of the architecture.
  /// - Parameters: the metadata, the sizes
  var read: @Sendable (GGUFMetadata, Sizes, inout Architecture) throws -> Void = { _, _, _ in }

  /// Whether another family's models have the same tensors, with rows in the same order. Constants alone distinguish such
  /// families, and a model whose constants are those of the other cannot be told from it.
  func hasTensors(of other: GGUFFamily) -> Bool {
    architecture == other.architecture && permutesQueriesAndKeys == other.permutesQueriesAndKeys
  }

  /// The sizes that a family's rules depend on.
  struct Sizes {
    var layers: Int
    var hidden: Int
    var heads: Int
    var headSize: Int
  }

  private static let window: Set<String> = ["attention.sliding_window"]
  private static let local: Set<String> = ["attention.sliding_window_pattern", "rope.freq_base_swa"]

  /// By `general.architecture`.
  static let all: [String: GGUFFamily] = [
    "llama": GGUFFamily(permutesQueriesAndKeys: true, keys: window),
    "qwen2": GGUFFamily(),
    "qwen3": GGUFFamily(architecture: .with { $0.queryKeyNorm = .head }),
    "smollm3": GGUFFamily(
      permutesQueriesAndKeys: true,
      read: { _, sizes, architecture in
        architecture.layersWithoutRoPE = (0..<sizes.layers).filter { ($0 + 1) % 4 == 0 }
      }),
    "granite": GGUFFamily(
      permutesQueriesAndKeys: true, keys: ["embedding_scale", "residual_scale", "attention.scale", "logit_scale"],
      read: { metadata, _, architecture in
        func factor(_ key: String) throws -> Float? { try metadata.float(key).flatMap { $0 == 0 ? nil : $0 } }
        architecture.embeddingMultiplier = try factor("embedding_scale") ?? 1
        architecture.residualMultiplier = try factor("residual_scale") ?? 1
        architecture.attentionScale = try factor("attention.scale")
        architecture.logitMultiplier = 1 / (try factor("logit_scale") ?? 1)
      }),
    // Converters write the window of Phi-3's configuration, which its class computes in all layers.
    "phi3": GGUFFamily(architecture: .with { $0.isFused = true }, rotatesPartly: true, keys: window),
    "olmo2": GGUFFamily(
      architecture: .with {
        $0.norms = .after
        $0.queryKeyNorm = .all
      }),
    "gemma2": GGUFFamily(
      architecture: .with { $0.norms = .both }, alwaysTiesHead: true,
      keys: window.union(["attn_logit_softcapping", "final_logit_softcapping", "attention.sliding_window_pattern"]),
      window: 4096, windowPattern: 2,
      read: { metadata, sizes, architecture in
        try readGemma(metadata, sizes, layersOf27B: 46, &architecture)
        architecture.attentionSoftCap = try metadata.float("attn_logit_softcapping") ?? 50
        architecture.logitSoftCap = try metadata.float("final_logit_softcapping") ?? 30
      }),
    "gemma3": GGUFFamily(
      architecture: .with {
        $0.norms = .both
        $0.queryKeyNorm = .head
      }, keys: window.union(local).union(["final_logit_softcapping"]), windowPattern: 6, localTheta: 10_000,
      read: { metadata, sizes, architecture in
        try readGemma(metadata, sizes, layersOf27B: 62, &architecture)
        let cap = try metadata.float("final_logit_softcapping")
        architecture.logitSoftCap = cap == 0 ? nil : cap
      }),
  ]

  /// The scale of attention is no key: llama.cpp knows the models of 27 billion parameters by their layers.
  private static func readGemma(
    _ metadata: GGUFMetadata, _ sizes: Sizes, layersOf27B: Int, _ architecture: inout Architecture
  ) throws {
    architecture.activation = .geluTanh
    architecture.normOffset = 1
    architecture.embeddingMultiplier = Float(Double(sizes.hidden).squareRoot())
    if sizes.layers == layersOf27B, sizes.heads > 0 {
      architecture.attentionScale = 1 / Float(sizes.hidden / sizes.heads).squareRoot()
    }
  }
}
