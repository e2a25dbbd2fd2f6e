public import Formats
public import Foundation
public import Kernels

/// Writes a model's original weights with an adapter merged into them, as a Hugging Face folder. A few megabytes of weights
/// are in memory at a time.
public enum MergedFolder {
  /// The default maximum of a file's tensors, in bytes, as transformers has it.
  public static let shardSize = 5_000_000_000

  /// - Parameters:
  ///   - adapter: a PEFT folder
  ///   - base: the folder of the original weights, in F32, F16 or BF16
  ///   - folder: does not exist, or is empty
  ///   - type: of the result: bf16 or f32
  ///   - shardSize: the maximum of a file's tensors, in bytes; a larger tensor has a file of its own
  ///   - progress: called with the share that is done, 0 ... 1; may throw to stop
  /// - Returns: what the adapter's configuration says of its base
  /// - Throws: `ModelError` naming what is wrong with the adapter or the base, or the path that cannot be written
  @discardableResult
  public static func write(
    adapter: URL, base: URL, to folder: URL, type: SafetensorsType = .bf16, shardSize: Int = MergedFolder.shardSize,
    pool: ThreadPool,
    progress: (Double) throws -> Void = { _ in }
  ) throws -> String? {
    let source = try SourceFolder(base)
    let merge = try WeightMerge(adapter: adapter, base: source.model, pool: pool)
    guard !merge.untiesHead || !source.model.isMultimodal else {
      throw ModelError(
        adapter.lastPathComponent,
        reason:
          "gives the model a head that is not its embedding, which cannot be written for a model for images and texts"
      )
    }
    let target = try AtomicFolder(folder)
    var names = source.weights.names.filter { !$0.hasSuffix("rotary_emb.inv_freq") }
    if merge.untiesHead, !names.contains(WeightMerge.head) { names.append(WeightMerge.head) }
    let shards = try ShardPlan(
      names.map { name in
        guard let tensor = source.tensor(name), [.f32, .f16, .bf16].contains(tensor.type) else {
          throw ModelError(
            source.weights.subject(name), name, reason: "is not in F32, F16 or BF16; give the original weights")
        }
        return SafetensorsWriter.Entry(name: name, type: type, shape: tensor.shape)
      }, size: shardSize)
    var written = 0
    for shard in shards.files {
      let writer = try SafetensorsWriter(
        target.file(shard.name), entries: shard.entries, metadata: ["format": "pt"])
      for entry in writer.order {
        try merge.copy(
          source.textName(entry.name), shape: entry.shape,
          read: { rows, values in try source.read(entry, rows: rows, into: values) },
          write: { values in
            try append(values, of: entry, to: writer)
            written += values.count * type.size
            try progress(Double(written) / Double(max(shards.byteCount, 1)))
          })
      }
      try writer.finish()
    }
    try shards.writeIndex(to: target)
    try source.copyOthers(to: target, type: type, untiesHead: merge.untiesHead)
    try target.finish()
    return merge.baseModel
  }

  private static func append(
    _ values: UnsafeBufferPointer<Float>, of entry: SafetensorsWriter.Entry, to writer: SafetensorsWriter
  ) throws {
    guard entry.type == .bf16 else { return try writer.append(UnsafeRawBufferPointer(values)) }
    // Infinities and NaN that the base has are copied.
    guard values.allSatisfy({ !($0.isFinite && abs($0) > FloatConversion.largestBFloat16) }) else {
      throw ModelError(entry.name, reason: "has values that are too large for bfloat16")
    }
    try withUnsafeTemporaryAllocation(byteCount: values.count * 2, alignment: 64) { bytes in
      let part = UnsafeMutableRawBufferPointer(rebasing: bytes[..<(values.count * 2)])
      FloatConversion.writeBFloat16(values, into: part)
      try writer.append(UnsafeRawBufferPointer(part))
    }
  }
}
