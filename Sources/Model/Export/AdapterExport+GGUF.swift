public import Formats
public import Foundation

extension AdapterExport {
  /// Writes an adapter as llama.cpp's `convert_lora_to_gguf.py` does: A and B of each module under the base's names, the
  /// rows of q's and k's B in the base's order, and one alpha, which llama.cpp divides by each update's rank. The
  /// embedding is looked up, so its A is stored token by token.
  /// - Parameters:
  ///   - adapter: a PEFT folder
  ///   - config: the base's
  ///   - tables: the base's, read if the adapter has tables of its own
  ///   - file: does not exist
  ///   - type: of the tensors; one of `GGUFWriter.types` without blocks
  ///   - name: `general.name`
  /// - Throws: `ModelError` naming the part that is wrong, or that GGUF cannot express: all but LoRA's factors
  public static func writeGGUF(
    _ adapter: URL, config: ModelConfig, tables: () throws -> BaseTables, to file: URL, type: GGUFTensorType = .f32,
    name: String
  ) throws {
    try AtomicFolder.checkTarget(file)
    let form = "GGUF's adapters"
    let factors = try ExportedFactors(adapter, config: config, tables: tables, form: form)
    guard !factors.usesDoRA else {
      throw ModelError(
        PEFTFolder.configurationFile, "use_dora", reason: "\(form) have no magnitudes; merge the adapter instead")
    }
    try factors.checkTables(config, form: form)
    let layout = GGUFLayout(config)
    let usesRSLoRA = factors.usesRSLoRA
    let alpha = CommonScale(factors.modules) { module in
      usesRSLoRA ? module.alpha * Double(module.rank).squareRoot() : module.alpha
    }
    let entries = factors.modules.flatMap { module in
      let name = layout.name(of: module.name + ".weight")
      let (rank, columns) = (module.rank, module.columns)
      return [
        GGUFWriter.Entry(
          name: name + ".lora_a", type: type, shape: module.isEmbedding ? [columns, rank] : [rank, columns]),
        GGUFWriter.Entry(name: name + ".lora_b", type: type, shape: [module.outputs, rank]),
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
    for module in factors.modules {
      let a = try factors.a(module)
      let stored = module.isEmbedding ? transposed(a, rows: module.rank, paddedTo: module.rank) : a
      try stored.withUnsafeBufferPointer { try writer.append($0) }
      let b = alpha.b(try factors.b(module), of: module)
      var rows = b
      if let projection = module.projection {
        for row in 0..<module.outputs {
          let place = layout.row(row, of: projection) * module.rank
          for index in 0..<module.rank { rows[place + index] = b[row * module.rank + index] }
        }
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
