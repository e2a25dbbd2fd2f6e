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
  ///   - folder: does not exist, or is empty
  /// - Throws: `ModelError` naming the part that is wrong, or the path that cannot be written
  public static func writeMLX(_ adapter: URL, config: ModelConfig, to folder: URL) throws {
    let reader = try Self.reader(adapter, config: config)
    let rank = reader.projections.reduce(1) { max($0, $1.rank) }
    try checkPadding(reader.projections, rank: rank, config: config)
    let target = try AtomicFolder(folder)
    let scale = CommonScale(reader.projections) { Double($0.scale) }
    var tensors: [String: (target: TargetedProjection, part: PEFTTensorName.Part)] = [:]
    var entries: [SafetensorsWriter.Entry] = []
    for projection in reader.projections {
      let size = projection.projection.shape(config)
      let name = projection.projection.fullName(layer: projection.layer)
      func add(_ suffix: String, _ part: PEFTTensorName.Part, _ shape: [Int]) {
        tensors["\(name).\(suffix)"] = (projection, part)
        entries.append(.init(name: "\(name).\(suffix)", type: .f32, shape: shape))
      }
      add("lora_a", .a, [size.input, rank])
      add("lora_b", .b, [rank, size.output])
      if reader.peft.usesDoRA { add("m", .magnitude, [size.output]) }
    }
    let writer = try SafetensorsWriter(
      target.file("adapters.safetensors"), entries: entries, metadata: ["format": "mlx"])
    for entry in writer.order {
      guard let (projection, part) = tensors[entry.name] else { continue }
      let update = try reader.update(projection)
      let values =
        switch part {
        case .a: transposed(update.a, rows: projection.rank, paddedTo: rank)
        case .b:
          padded(transposed(scale.b(of: update, projection), columns: projection.rank), count: entry.byteCount / 4)
        case .magnitude: update.magnitude ?? []
        }
      try values.withUnsafeBytes { try writer.append($0) }
    }
    try writer.finish()
    let first = reader.projections.reduce(config.layerCount) { min($0, $1.layer) }
    let keys = Set(reader.projections.map(\.projection.rawValue)).sorted()
    let configuration: JSONValue = [
      "fine_tune_type": .string(reader.peft.usesDoRA ? "dora" : "lora"),
      "lora_parameters": [
        "keys": .array(keys.map(JSONValue.string)), "rank": .integer(rank), "scale": .number(Double(scale.value)),
        "dropout": .number(0),
      ],
      "num_layers": .integer(config.layerCount - first),
    ]
    try AtomicFile.write(configuration.encoded, to: target.file(PEFTFolder.configurationFile))
    try target.finish()
  }

  /// The maximum factor by which zeros may make an adapter larger, and the size from which on it counts, in elements.
  private static let largestPadding = (factor: 16, elements: 1 << 26)

  /// Refuses an adapter of which one update has a rank far above all others': a small file would become one of any size.
  static func checkPadding(_ projections: [TargetedProjection], rank: Int, config: ModelConfig) throws {
    var (own, padded) = (0, 0)
    for target in projections {
      let shape = target.projection.shape(config)
      own += (shape.input + shape.output) * target.rank
      padded += (shape.input + shape.output) * rank
    }
    guard padded <= max(own * largestPadding.factor, largestPadding.elements) else {
      throw ModelError(
        PEFTFolder.configurationFile, "rank_pattern",
        reason:
          "MLX-LM has one rank, and with \(rank) for all updates the adapter would be \(padded / max(own, 1)) times "
          + "as large")
    }
  }

  /// [rows, columns] as [columns, paddedTo], with zeros behind each row.
  private static func transposed(_ values: [Float], rows: Int, paddedTo width: Int) -> [Float] {
    let columns = values.count / rows
    var result = [Float](repeating: 0, count: columns * width)
    for row in 0..<rows {
      for column in 0..<columns { result[column * width + row] = values[row * columns + column] }
    }
    return result
  }

  private static func transposed(_ values: [Float], columns: Int) -> [Float] {
    let rows = values.count / columns
    return transposed(values, rows: rows, paddedTo: rows)
  }

  private static func padded(_ values: [Float], count: Int) -> [Float] {
    values + [Float](repeating: 0, count: count - values.count)
  }
}
