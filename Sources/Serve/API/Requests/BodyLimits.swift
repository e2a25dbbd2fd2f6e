import Formats

/// The limits of a route's JSON body.
struct BodyLimits: Sendable {
  /// Maximum bytes; `nil`: the HTTP layer's limit for all bodies.
  var bytes: Int?
  var json: JSONLimits

  /// Some settings: names, paths, numbers.
  static let settings = BodyLimits(bytes: 64 << 10, json: JSONLimits(values: 10_000))
  /// A fine-tuning job's settings, which can have a rank for each module.
  static let jobSettings = BodyLimits(bytes: 1 << 20, json: JSONLimits(values: 100_000))
  /// Messages and tools. Schemas may have any number: one that cannot be followed is refused with its place.
  static let chat = BodyLimits(json: JSONLimits(values: 400_000, allowsAnyNumber: true))
  /// Prompts, which can be 128 lists of token ids, and schemas.
  static let prompts = BodyLimits(json: JSONLimits(values: 2_000_000, allowsAnyNumber: true))
}
