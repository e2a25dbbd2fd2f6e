public import Formats
public import Foundation
import Kernels

/// Makes a LoRA adapter of the difference between a fine-tuned model and its base: of each projection that differs, the
/// nearest matrix of the adapter's rank. One projection's difference is in memory at a time.
public enum AdapterExtraction {
  /// What became of a tensor that differs.
  public struct Part: Sendable, Equatable {
    /// Hugging Face's name, "model.layers.0.self_attn.q_proj.weight".
    public let name: String
    /// The share of the difference's sum of squares that the adapter has, 0 ... 1; 0 for a tensor that no adapter of
    /// projections can change.
    public let kept: Double
    /// The difference's sum of squares divided by the base's.
    public let change: Double
  }

  /// - Parameters:
  ///   - base: the model that the adapter is for
  ///   - tuned: a model of the same sizes
  ///   - name: the configuration's `base_model_name_or_path`
  ///   - folder: does not exist, or is empty
  ///   - progress: called with the share that is done, 0 ... 1; may throw to stop
  /// - Returns: every tensor that differs, in the order of a forward pass
  /// - Throws: `ModelError` for models of other shapes, for values that are not finite, for two equal models, and naming the
  ///   path that cannot be written
  public static func write(
    base: any PublishedModel, tuned: any PublishedModel, rank: Int, name: String, to folder: URL,
    progress: (Double) throws -> Void = { _ in }
  ) throws -> [Part] {
    guard 1...TargetedProjection.maximumRank ~= rank else {
      throw ModelError("rank", reason: "\(rank) is not a rank from 1 to \(TargetedProjection.maximumRank)")
    }
    let target = try AtomicFolder(folder)
    let config = base.config
    try checkShapes(base, tuned)
    var parts = try otherParts(base, tuned)
    var tensors: [(name: String, shape: [Int], values: [Float])] = []
    var modules: [(layer: Int, projection: Projection)] = []
    let count = config.layerCount * config.projections.count
    var done = 0
    for layer in 0..<config.layerCount {
      for projection in config.projections {
        let name = projection.fullName(layer: layer) + ".weight"
        let (difference, baseSquares, squares) = try self.difference(base, tuned, name)
        done += 1
        try progress(Double(done) / Double(count))
        if squares == 0 { continue }
        let size = projection.shape(config)
        let found = LowRankApproximation(difference, rows: size.output, columns: size.input, rank: rank)
        parts.append(Part(name: name, kept: found.kept, change: squares / max(baseSquares, .leastNormalMagnitude)))
        modules.append((layer, projection))
        tensors.append((PEFTTensorName.name(projection, layer: layer, .a), [rank, size.input], found.a))
        tensors.append((PEFTTensorName.name(projection, layer: layer, .b), [size.output, rank], found.b))
      }
    }
    guard !modules.isEmpty else {
      throw ModelError(name, reason: "no projection differs from the tuned model's, so there is nothing to extract")
    }
    try SafetensorsWriter.write(tensors, metadata: ["format": "pt"], to: target.file(PEFTFolder.weightsFile))
    let configuration = configuration(rank: rank, modules: modules, config: config, base: name)
    try AtomicFile.write(configuration.encoded, to: target.file(PEFTFolder.configurationFile))
    try target.finish()
    return parts
  }

  private static func checkShapes(_ base: any PublishedModel, _ tuned: any PublishedModel) throws {
    for name in base.config.tensorNames + tuned.config.tensorNames where base.shape(of: name) != tuned.shape(of: name) {
      func text(_ shape: [Int]?) -> String { shape.map { "\($0)" } ?? "missing" }
      throw ModelError(
        name, reason: "\(text(tuned.shape(of: name))) in the tuned model, \(text(base.shape(of: name))) in the base")
    }
  }

  /// The tensors that are no projections and differ.
  private static func otherParts(_ base: any PublishedModel, _ tuned: any PublishedModel) throws -> [Part] {
    try base.config.tensorNames.filter { !$0.hasSuffix("_proj.weight") }.compactMap { name in
      var (own, squares) = (0.0, 0.0)
      try forEachStrip(base, tuned, name) { first, second in
        for index in first.indices {
          own += Double(first[index]) * Double(first[index])
          let difference = Double(second[index]) - Double(first[index])
          squares += difference * difference
        }
      }
      return squares == 0 ? nil : Part(name: name, kept: 0, change: squares / max(own, .leastNormalMagnitude))
    }
  }

  private static func difference(
    _ base: any PublishedModel, _ tuned: any PublishedModel, _ name: String
  ) throws -> (values: [Float], baseSquares: Double, squares: Double) {
    var values: [Float] = []
    values.reserveCapacity(base.shape(of: name)?.reduce(1, *) ?? 0)
    var (own, squares) = (0.0, 0.0)
    try forEachStrip(base, tuned, name) { first, second in
      for index in first.indices {
        let difference = second[index] - first[index]
        values.append(difference)
        own += Double(first[index]) * Double(first[index])
        squares += Double(difference) * Double(difference)
      }
    }
    return (values, own, squares)
  }

  private static let stripCount = 1 << 20

  private static func forEachStrip(
    _ base: any PublishedModel, _ tuned: any PublishedModel, _ name: String, _ body: ([Float], [Float]) -> Void
  ) throws {
    guard let shape = base.shape(of: name) else { throw ModelError(name, reason: "missing") }
    let columns = shape.last ?? 1
    let rows = shape.count < 2 ? 1 : shape[0]
    let strip = max(1, stripCount / columns)
    for first in stride(from: 0, to: rows, by: strip) {
      let range = first..<min(first + strip, rows)
      let parts = try [base, tuned].map { model in
        try [Float](unsafeUninitializedCapacity: range.count * columns) { buffer, initialized in
          let part = UnsafeMutableBufferPointer(rebasing: buffer[..<(range.count * columns)])
          try model.read(name, rows: range, into: part)
          initialized = part.count
        }
      }
      guard parts.allSatisfy(FloatConversion.areFinite) else {
        throw ModelError(name, reason: "has values that are not finite")
      }
      body(parts[0], parts[1])
    }
  }

  private static func configuration(
    rank: Int, modules: [(layer: Int, projection: Projection)], config: ModelConfig, base: String
  ) -> JSONValue {
    let projections = Set(modules.map(\.projection))
    let isUniform = modules.count == projections.count * config.layerCount
    let names =
      isUniform
      ? projections.map(\.shortName).sorted() : modules.map { $0.projection.fullName(layer: $0.layer) }
    return [
      "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": .string(base), "r": .integer(rank),
      "lora_alpha": .integer(rank), "lora_dropout": .number(0), "target_modules": .array(names.map(JSONValue.string)),
      "bias": "none", "fan_in_fan_out": false, "use_rslora": false, "use_dora": false, "inference_mode": true,
      "init_lora_weights": true,
    ]
  }
}
