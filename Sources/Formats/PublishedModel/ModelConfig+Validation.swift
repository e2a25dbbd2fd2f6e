import Kernels

extension ModelConfig {
  /// Limits far above every published model. With them no product of a layer's sizes, in elements or bytes, can overflow.
  private static let limits = (
    vocabulary: 1 << 24, hidden: 1 << 18, intermediate: 1 << 20, layers: 1 << 12, heads: 1 << 12, head: 1 << 12,
    context: 1 << 30
  )

  /// The maximum of layers.
  static var layerLimit: Int { limits.layers }

  /// - Parameter subject: what errors name
  /// - Throws: `ModelError` naming the size that does not fit the architecture
  package func validate(_ subject: String) throws {
    func check(_ name: String, _ value: Int, limit: Int) throws {
      guard value > 0 else { throw ModelError(subject, name, reason: "\(value), which is not positive") }
      guard value <= limit else { throw ModelError(subject, name, reason: "\(value), more than \(limit)") }
    }
    try check("vocabulary size", vocabularySize, limit: Self.limits.vocabulary)
    try check("hidden size", hiddenSize, limit: Self.limits.hidden)
    try check("intermediate size", intermediateSize, limit: Self.limits.intermediate)
    try check("layer count", layerCount, limit: Self.limits.layers)
    try check("head count", headCount, limit: Self.limits.heads)
    try check("key-value head count", keyValueHeadCount, limit: Self.limits.heads)
    try check("head size", headSize, limit: Self.limits.head)
    try check("query size", querySize, limit: Self.limits.intermediate)
    try check("context length", contextLength, limit: Self.limits.context)
    guard headCount % keyValueHeadCount == 0 else {
      let reason = "\(headCount) is no multiple of the key-value head count, \(keyValueHeadCount)"
      throw ModelError(subject, "head count", reason: reason)
    }
    guard headSize % 2 == 0 else { throw ModelError(subject, "head size", reason: "\(headSize) is odd") }
    guard rmsNormEpsilon > 0, rmsNormEpsilon < 1 else {
      throw ModelError(subject, "RMS norm epsilon", reason: "\(rmsNormEpsilon) is not between 0 and 1")
    }
    for (name, tokens) in [("bos token", bosToken.map { [$0] } ?? []), ("eos token", eosTokens)] {
      for token in tokens where token < 0 || Int(token) >= vocabularySize {
        throw ModelError(subject, name, reason: "\(token) is outside the vocabulary of \(vocabularySize)")
      }
    }
    try rope.validate(subject, headSize: rotarySize)
    try architecture.localRoPE?.validate(subject, headSize: rotarySize)
    try checkArchitecture(subject)
  }

  private func checkArchitecture(_ subject: String) throws {
    let architecture = architecture
    guard rotarySize > 0, rotarySize <= headSize, rotarySize % 2 == 0 else {
      throw ModelError(subject, "rotary size", reason: "\(rotarySize) for a head size of \(headSize)")
    }
    guard !architecture.isFused || intermediateSize % tileLanes == 0 else {
      throw ModelError(subject, "intermediate size", reason: "\(intermediateSize) is no multiple of \(tileLanes)")
    }
    let factors = [
      ("embedding multiplier", architecture.embeddingMultiplier),
      ("residual multiplier", architecture.residualMultiplier), ("attention scale", attentionScale),
      ("logit multiplier", architecture.logitMultiplier),
      ("attention soft cap", architecture.attentionSoftCap ?? 1), ("logit soft cap", architecture.logitSoftCap ?? 1),
    ]
    for (name, factor) in factors where !(factor > 0 && factor.isFinite) {
      throw ModelError(subject, name, reason: "\(factor) is not positive")
    }
    for layer in architecture.layersWithoutRoPE + architecture.localLayers + (architecture.windowedLayers ?? [])
    where !(0..<layerCount).contains(layer) {
      throw ModelError(subject, "layers", reason: "there is no layer \(layer)")
    }
  }

  /// The names of the tensors that a published model of this configuration has, sorted.
  package var tensorNames: [String] { tensorShapes().keys.sorted() }

  /// The tensors that a published model of this configuration has, by Hugging Face name, with their shapes.
  /// A tied head has no tensor of its own.
  package func tensorShapes() -> [String: [Int]] {
    var shapes = [
      "model.embed_tokens.weight": [vocabularySize, hiddenSize],
      "model.norm.weight": [hiddenSize],
    ]
    if !tiedHead { shapes["lm_head.weight"] = [vocabularySize, hiddenSize] }
    for layer in 0..<layerCount {
      for norm in LayerNorm.allCases {
        if let name = name(of: norm, layer: layer) { shapes[name] = [size(of: norm)] }
      }
      for module in projections {
        let shape = module.shape(self)
        shapes[module.fullName(layer: layer) + ".weight"] = [shape.output, shape.input]
        if architecture.biases.contains(module) { shapes[module.fullName(layer: layer) + ".bias"] = [shape.output] }
      }
    }
    return shapes
  }
}

extension RoPEParameters {
  fileprivate func validate(_ subject: String, headSize: Int) throws {
    func check(_ name: String, _ value: Float) throws {
      guard value > 0, value.isFinite else { throw ModelError(subject, name, reason: "\(value) is not positive") }
    }
    try check("RoPE theta", theta)
    switch scaling {
    case .none: break
    case .linear(let factor): try check("RoPE factor", factor)
    case .llama3(let factor, let low, let high, let original):
      try check("RoPE factor", factor)
      try check("RoPE low frequency factor", low)
      try check("RoPE high frequency factor", high)
      guard high > low else {
        throw ModelError(subject, "RoPE high frequency factor", reason: "\(high) is not above the low one, \(low)")
      }
      guard original > 0 else {
        throw ModelError(subject, "RoPE original context length", reason: "\(original) is not positive")
      }
    case .divisors(let divisors):
      guard divisors.count == headSize / 2 else {
        throw ModelError(subject, "RoPE divisors", reason: "\(divisors.count) for a head size of \(headSize)")
      }
      for divisor in divisors { try check("RoPE divisors", divisor) }
    case .dynamic(let factor, let original):
      guard factor >= 1, factor.isFinite else {
        throw ModelError(subject, "RoPE factor", reason: "\(factor) is less than 1")
      }
      try check("RoPE original context length", Float(original))
      guard headSize > 2 else { throw ModelError(subject, "rotary size", reason: "\(headSize) is too small") }
    case .yarn(let factor, let attentionFactor, let fast, let slow, let original, _):
      try check("RoPE factor", factor)
      try check("RoPE attention factor", attentionFactor)
      try check("RoPE beta_fast", fast)
      try check("RoPE beta_slow", slow)
      try check("RoPE original context length", Float(original))
      guard theta != 1 else { throw ModelError(subject, "RoPE theta", reason: "1 cannot go with yarn") }
    case .longrope(let short, let long, let attentionFactor, let original):
      try check("RoPE attention factor", attentionFactor)
      try check("RoPE original context length", Float(original))
      for (name, divisors) in [("RoPE short factors", short), ("RoPE long factors", long)] {
        guard divisors.count == headSize / 2 else {
          throw ModelError(subject, name, reason: "\(divisors.count) for a rotary size of \(headSize)")
        }
        for divisor in divisors { try check(name, divisor) }
      }
    }
  }
}
