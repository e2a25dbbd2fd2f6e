import Foundation

/// Reads the parameters of the rotary position embedding, in both forms: `rope_theta` with `rope_scaling`, and
/// `rope_parameters`.
struct HuggingFaceRoPE {
  /// Of all layers, or of those without a window if others have their own.
  let parameters: RoPEParameters
  /// Of the layers with a window, if they have their own.
  let local: RoPEParameters?
  /// The part of a head that is rotated, from its first element.
  let rotatedShare: Double

  private static let scalingFields: [String: Set<String>] = [
    "default": [], "linear": ["factor"], "dynamic": ["factor"],
    "llama3": ["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"],
    "yarn": [
      "factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate",
      "original_max_position_embeddings",
    ],
    "longrope": ["factor", "attention_factor", "short_factor", "long_factor", "original_max_position_embeddings"],
  ]

  /// - Throws: `ModelError` naming the field that is missing, wrong or not supported
  init(_ fields: HuggingFaceFields, family: HuggingFaceFamily, contextLength: Int) throws {
    let reader = Reader(fields: fields, family: family, contextLength: contextLength)
    let outerShare = try fields.number("partial_rotary_factor")
    // If the file has both, rope_scaling is used, as in transformers.
    let key = ["rope_scaling", "rope_parameters"].first { fields.object[$0]?.isNull == false }
    var object: JSONObject?
    if let key {
      object = fields.object[key]?.object
      guard object != nil else { throw fields.failure(key, "is not an object") }
    }
    var localObject: JSONObject?
    let isNested = family.hasLocalRoPE && object?["full_attention"] != nil
    if isNested {
      localObject = object?["sliding_attention"]?.object
      for (name, _) in object?.pairs ?? [] where name != "full_attention" && name != "sliding_attention" {
        throw fields.failure(key ?? "", "\(name) is not supported")
      }
      object = object?["full_attention"]?.object
    }
    let subject = "\(fields.file): \(key ?? "rope_parameters")" + (isNested ? ": full_attention" : "")
    let global = try reader.read(object, subject, theta: try fields.number("rope_theta") ?? family.theta)
    parameters = global.parameters
    local =
      family.hasLocalRoPE
      ? try reader.read(
        localObject, "\(fields.file): rope_parameters: sliding_attention",
        theta: try fields.number("rope_local_base_freq") ?? 10_000
      ).parameters : nil
    rotatedShare = global.share ?? outerShare ?? 1
    guard rotatedShare == 1 || family.rotatesPartly, rotatedShare > 0, rotatedShare <= 1 else {
      throw fields.failure("partial_rotary_factor", "\(rotatedShare) is not supported")
    }
  }

  private struct Reader {
    let fields: HuggingFaceFields
    let family: HuggingFaceFamily
    let contextLength: Int

    func read(
      _ object: JSONObject?, _ subject: String, theta: Double
    ) throws -> (parameters: RoPEParameters, share: Double?) {
      guard let object else { return (RoPEParameters(theta: Float(theta)), nil) }
      let rope = HuggingFaceFields(object: object, file: subject)
      let theta = Float(try rope.number("rope_theta") ?? theta)
      var type = try rope.string("rope_type") ?? rope.string("type") ?? "default"
      // Older names of Phi-3's scaling.
      if type == "su" || (type == "yarn" && object["short_factor"] != nil) { type = "longrope" }
      guard let known = HuggingFaceRoPE.scalingFields[type] else {
        throw rope.failure("rope_type", "\(type) is not supported")
      }
      let share = try rope.number("partial_rotary_factor")
      for (key, value) in object.pairs where !known.contains(key) && !value.isNull {
        if ["rope_type", "type", "rope_theta", "partial_rotary_factor"].contains(key) { continue }
        // The default type does not use these fields of the scaled types.
        if type == "default", ["factor", "original_max_position_embeddings"].contains(key) { continue }
        throw rope.failure(key, "is not supported")
      }
      return (RoPEParameters(theta: theta, scaling: try scaling(type, rope)), share)
    }

    private func scaling(_ type: String, _ rope: HuggingFaceFields) throws -> RoPEParameters.Scaling {
      func factor() throws -> Float { Float(try rope.required("factor") { try rope.number($0) }) }
      switch type {
      case "linear": return .linear(factor: try factor())
      case "dynamic": return .dynamic(factor: try factor(), originalContextLength: contextLength)
      case "llama3":
        return .llama3(
          factor: try factor(),
          lowFrequencyFactor: Float(try rope.required("low_freq_factor") { try rope.number($0) }),
          highFrequencyFactor: Float(try rope.required("high_freq_factor") { try rope.number($0) }),
          originalContextLength: try originalLength(rope))
      case "yarn": return try yarn(rope)
      case "longrope": return try longrope(rope)
      default: return .none
      }
    }

    private func originalLength(_ rope: HuggingFaceFields) throws -> Int {
      let length =
        try fields.integer("original_max_position_embeddings")
        ?? family.originalPositions ?? rope.integer("original_max_position_embeddings") ?? contextLength
      guard length > 0 else {
        throw rope.failure("original_max_position_embeddings", "\(length), which is not positive")
      }
      return length
    }

    private func yarn(_ rope: HuggingFaceFields) throws -> RoPEParameters.Scaling {
      let original = try originalLength(rope)
      let factor = try rope.number("factor") ?? Double(contextLength) / Double(original)
      func magnitude(_ scale: Double) -> Double { factor <= 1 ? 1 : 0.1 * scale * log(factor) + 1 }
      let scale = try rope.number("mscale") ?? 0
      let scaleOfAll = try rope.number("mscale_all_dim") ?? 0
      let inferred = scale != 0 && scaleOfAll != 0 ? magnitude(scale) / magnitude(scaleOfAll) : magnitude(1)
      func nonZero(_ field: String, _ absent: Double) throws -> Float {
        let value = try rope.number(field) ?? 0
        return Float(value == 0 ? absent : value)
      }
      return .yarn(
        factor: Float(factor), attentionFactor: Float(try rope.number("attention_factor") ?? inferred),
        betaFast: try nonZero("beta_fast", 32), betaSlow: try nonZero("beta_slow", 1),
        originalContextLength: original, truncate: try rope.bool("truncate") ?? true)
    }

    private func longrope(_ rope: HuggingFaceFields) throws -> RoPEParameters.Scaling {
      let original = try originalLength(rope)
      let factor = try rope.number("factor") ?? Double(contextLength) / Double(original)
      let inferred = factor <= 1 ? 1 : (1 + log(factor) / log(Double(original))).squareRoot()
      func divisors(_ field: String) throws -> [Float] {
        try rope.required(field) { field in
          try rope.value(field, "a list of numbers") { value -> [Float]? in
            let numbers = value.array?.compactMap(\.double).map { Float($0) }
            return numbers?.count == value.array?.count ? numbers : nil
          }
        }
      }
      return .longrope(
        short: try divisors("short_factor"), long: try divisors("long_factor"),
        attentionFactor: Float(try rope.number("attention_factor") ?? inferred), originalContextLength: original)
    }
  }
}
