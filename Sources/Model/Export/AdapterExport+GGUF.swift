public import Formats
public import Foundation

extension AdapterExport {
  /// Writes an adapter as llama.cpp's `convert_lora_to_gguf.py` does: A and B of each projection under the base's names,
  /// the rows of q's and k's B in the base's order, and one alpha, which llama.cpp divides by each update's rank.
  /// - Parameters:
  ///   - adapter: a PEFT folder
  ///   - config: the base's
  ///   - file: does not exist
  ///   - type: of the tensors; one of `GGUFWriter.types` without blocks
  ///   - name: `general.name`
  /// - Throws: `ModelError` naming the part that is wrong, or that GGUF cannot express: DoRA's magnitudes
  public static func writeGGUF(
    _ adapter: URL, config: ModelConfig, to file: URL, type: GGUFTensorType = .f32, name: String
  ) throws {
    try AtomicFolder.checkTarget(file)
    let reader = try Self.reader(adapter, config: config)
    guard !reader.peft.usesDoRA else {
      throw ModelError(
        PEFTFolder.configurationFile, "use_dora",
        reason: "GGUF's adapters have no magnitudes; merge the adapter instead")
    }
    let layout = GGUFLayout(config)
    let usesRSLoRA = reader.peft.usesRSLoRA
    let alpha = CommonScale(reader.projections) { target in
      usesRSLoRA ? target.alpha * Double(target.rank).squareRoot() : target.alpha
    }
    let entries = reader.projections.flatMap { target in
      let shape = target.projection.shape(config)
      let name = layout.name(of: target.projection.fullName(layer: target.layer) + ".weight")
      return [
        GGUFWriter.Entry(name: name + ".lora_a", type: type, shape: [target.rank, shape.input]),
        GGUFWriter.Entry(name: name + ".lora_b", type: type, shape: [shape.output, target.rank]),
      ]
    }
    let writer = try GGUFWriter(
      file,
      metadata: [
        ("general.architecture", .string(layout.architecture)), ("general.type", .string("adapter")),
        ("adapter.type", .string("lora")), ("adapter.lora.alpha", .float32(alpha.value)),
        ("general.name", .string(name)), ("general.file_type", .uint32(type.fileType)),
        ("general.quantization_version", .uint32(2)),
      ], entries: entries)
    for target in reader.projections {
      let update = try reader.update(target)
      try update.a.withUnsafeBufferPointer { try writer.append($0) }
      let b = alpha.b(of: update, target)
      var rows = b
      for row in 0..<b.count / target.rank {
        let place = layout.row(row, of: target.projection) * target.rank
        for index in 0..<target.rank { rows[place + index] = b[row * target.rank + index] }
      }
      try rows.withUnsafeBufferPointer { try writer.append($0) }
    }
    try writer.finish()
  }
}

extension GGUFTensorType {
  /// llama.cpp's number for files whose tensors are mostly of this type (`llama_ftype`).
  var fileType: UInt32 {
    switch self {
    case .f16: 1
    case .q8_0: 7
    case .bf16: 32
    default: 0
    }
  }
}
