public import Formats
public import Foundation

extension AdapterExport {
  /// Writes an adapter as MLX-LM does (`mlx_lm.tuner`): adapters.safetensors with A and B transposed, and
  /// adapter_config.json with one rank and one scale.
  ///
  /// Updates of a lower rank get zeros, so that all have the highest rank. MLX-LM adapts the last `num_layers` layers, and
  /// the same projections in each; those that the adapter does not change have no tensors, and MLX-LM's begin as zeros.
  /// - Parameters:
  ///   - adapter: a PEFT folder
  ///   - config: the base's
  ///   - tables: the base's, read if the adapter has tables of its own
  ///   - folder: does not exist, or is empty
  /// - Throws: `ModelError` naming the part that is wrong, or that MLX-LM cannot express, or the path that cannot be written
  public static func writeMLX(
    _ adapter: URL, config: ModelConfig, tables: () throws -> BaseTables, to folder: URL
  ) throws {
    let form = "MLX-LM's adapters"
    let factors = try ExportedFactors(adapter, config: config, tables: tables, form: form)
    let modules = try modules(of: factors, config: config, form: form)
    let rank = modules.reduce(1) { max($0, $1.rank) }
    try checkPadding(modules, rank: rank)
    let target = try AtomicFolder(folder)
    let scale = CommonScale(modules) { Double($0.scale) }
    var tensors: [String: (module: ExportedFactors.Module, part: PEFTTensorName.Part)] = [:]
    var entries: [SafetensorsWriter.Entry] = []
    for module in modules {
      func add(_ suffix: String, _ part: PEFTTensorName.Part, _ shape: [Int]) {
        tensors["\(module.name).\(suffix)"] = (module, part)
        entries.append(.init(name: "\(module.name).\(suffix)", type: .f32, shape: shape))
      }
      add("lora_a", .a, [module.columns, rank])
      add("lora_b", .b, [rank, module.outputs])
      if factors.usesDoRA { add("m", .magnitude, [module.outputs]) }
    }
    let writer = try SafetensorsWriter(
      target.file("adapters.safetensors"), entries: entries, metadata: ["format": "mlx"])
    for entry in writer.order {
      guard let (module, part) = tensors[entry.name] else { continue }
      let values =
        switch part {
        case .a: transposed(try factors.a(module), rows: module.rank, paddedTo: rank)
        case .b:
          padded(
            transposed(scale.b(try factors.b(module), of: module), rows: module.outputs, paddedTo: module.outputs),
            count: entry.byteCount / 4)
        case .magnitude: try factors.magnitude(module)
        }
      try values.withUnsafeBytes { try writer.append($0) }
    }
    try writer.finish()
    try AtomicFile.write(
      configuration(factors, modules, rank: rank, scale: scale.value, config: config).encoded,
      to: target.file(PEFTFolder.configurationFile))
    try target.finish()
  }

  /// The modules that have factors of their own in MLX-LM. With a tied head, MLX-LM's factors of the embedding change the head
  /// alike: y += scale · (x · Bᵀ) · Aᵀ. An adapter that has just these factors of the head, too, is written so.
  private static func modules(
    of factors: ExportedFactors, config: ModelConfig, form: String
  ) throws -> [ExportedFactors.Module] {
    guard config.tiedHead, let embedding = factors.modules.first(where: \.isEmbedding),
      let head = factors.modules.first(where: { $0.projection == nil && !$0.isEmbedding }),
      head.rank == embedding.rank, head.scale == embedding.scale, !factors.usesDoRA,
      try factors.b(head) == transposed(factors.a(embedding), rows: head.rank, paddedTo: head.rank),
      try factors.a(head) == transposed(factors.b(embedding), rows: config.hiddenSize, paddedTo: config.hiddenSize)
    else {
      try factors.checkTables(config, form: form)
      return factors.modules
    }
    return factors.modules.filter { $0.projection != nil || $0.isEmbedding }
  }

  private static func configuration(
    _ factors: ExportedFactors, _ modules: [ExportedFactors.Module], rank: Int, scale: Float, config: ModelConfig
  ) -> JSONValue {
    // Of a layer's module, its name in the layer.
    let keys = Set(modules.map { $0.projection?.rawValue ?? $0.name }).sorted()
    let first = factors.reader.projections.reduce(config.layerCount) { min($0, $1.layer) }
    return [
      "fine_tune_type": .string(factors.usesDoRA ? "dora" : "lora"),
      "lora_parameters": [
        "keys": .array(keys.map(JSONValue.string)), "rank": .integer(rank), "scale": .number(Double(scale)),
        "dropout": .number(0),
      ],
      "num_layers": .integer(config.layerCount - first),
    ]
  }

  /// The maximum factor by which zeros may make an adapter larger, and the size from which on it counts, in elements.
  private static let largestPadding = (factor: 16, elements: 1 << 26)

  /// Refuses an adapter of which one update has a rank far above all others': a small file would become one of any size.
  static func checkPadding(_ modules: [ExportedFactors.Module], rank: Int) throws {
    var (own, padded) = (0, 0)
    for module in modules {
      own += (module.columns + module.outputs) * module.rank
      padded += (module.columns + module.outputs) * rank
    }
    guard padded <= max(own * largestPadding.factor, largestPadding.elements) else {
      throw ModelError(
        PEFTFolder.configurationFile, "rank_pattern",
        reason:
          "MLX-LM has one rank, and with \(rank) for all updates the adapter would be \(padded / max(own, 1)) times "
          + "as large")
    }
  }

  private static func padded(_ values: [Float], count: Int) -> [Float] {
    values + [Float](repeating: 0, count: count - values.count)
  }
}
