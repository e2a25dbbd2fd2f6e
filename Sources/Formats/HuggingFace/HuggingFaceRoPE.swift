/// Reads the parameters of the rotary position embedding, in both forms: `rope_theta` with `rope_scaling`, and
/// `rope_parameters`.
enum HuggingFaceRoPE {
  private static let defaultTheta = 10_000.0

  static func parameters(_ fields: HuggingFaceFields, contextLength: Int) throws -> RoPEParameters {
    let outerTheta = try fields.number("rope_theta")
    if let factor = try fields.number("partial_rotary_factor"), factor != 1 {
      throw fields.failure("partial_rotary_factor", "\(factor) is not supported")
    }
    // If the file has both, rope_scaling is used, as in transformers.
    let key = ["rope_scaling", "rope_parameters"].first { fields.object[$0]?.isNull == false }
    guard let key else { return RoPEParameters(theta: Float(outerTheta ?? defaultTheta)) }
    guard let object = fields.object[key]?.object else { throw fields.failure(key, "is not an object") }
    let rope = HuggingFaceFields(object: object, file: "\(fields.file): \(key)")
    let theta = Float(try rope.number("rope_theta") ?? outerTheta ?? defaultTheta)
    let type = try rope.string("rope_type") ?? rope.string("type") ?? "default"
    var known: Set<String> = ["rope_type", "type", "rope_theta"]
    let scaling: RoPEParameters.Scaling
    switch type {
    case "default": scaling = .none
    case "linear":
      known.insert("factor")
      scaling = .linear(factor: Float(try rope.required("factor") { try rope.number($0) }))
    case "llama3":
      known.formUnion(["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"])
      scaling = .llama3(
        factor: Float(try rope.required("factor") { try rope.number($0) }),
        lowFrequencyFactor: Float(try rope.required("low_freq_factor") { try rope.number($0) }),
        highFrequencyFactor: Float(try rope.required("high_freq_factor") { try rope.number($0) }),
        originalContextLength: try fields.integer("original_max_position_embeddings")
          ?? rope.integer("original_max_position_embeddings") ?? contextLength)
    default: throw rope.failure("rope_type", "\(type) is not supported")
    }
    for (key, value) in object.pairs where !known.contains(key) && !value.isNull {
      if key == "partial_rotary_factor", value.double == 1 { continue }
      // The default type does not use these fields of the scaled types.
      if type == "default", ["factor", "original_max_position_embeddings"].contains(key) { continue }
      throw rope.failure(key, "is not supported")
    }
    return RoPEParameters(theta: theta, scaling: scaling)
  }
}
