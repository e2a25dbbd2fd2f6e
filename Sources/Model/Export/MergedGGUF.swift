public import Formats
public import Foundation
public import Kernels

/// Writes a model's weights with an adapter merged into them, as a GGUF file. A few megabytes of weights are in memory at a
/// time.
public enum MergedGGUF {
  /// - Parameters:
  ///   - adapter: a PEFT folder
  ///   - base: whose weights are merged: a Hugging Face folder of the original weights, or a GGUF file
  ///   - like: a GGUF file of the same model, which gives metadata and tokenizer; it can be the base itself
  ///   - file: does not exist
  ///   - type: of the matrices: bf16, f16 or q8_0; vectors are f32. Matrices whose rows are no whole blocks of q8_0 are f16
  ///   - progress: called with the share that is done, 0 ... 1; may throw to stop
  /// - Returns: what the adapter's configuration says of its base
  /// - Throws: `ModelError` naming what is wrong with the adapter or the base, or the path that cannot be written
  @discardableResult
  public static func write(
    adapter: URL, base: any PublishedModel, like: GGUFModel, to file: URL, type: GGUFTensorType, pool: ThreadPool,
    progress: (Double) throws -> Void = { _ in }
  ) throws -> String? {
    try AtomicFolder.checkTarget(file)
    let config = like.config
    for name in Set(config.tensorNames + base.config.tensorNames).sorted()
    where base.shape(of: name) != like.shape(of: name) {
      throw ModelError(name, reason: "has other shapes in the base and in the GGUF file with the metadata")
    }
    for name in config.tensorNames where base.storage(of: name) != .plain {
      throw ModelError(name, reason: "is quantised in the base; give the original weights")
    }
    let merge = try WeightMerge(
      adapter: adapter, base: base, normOffset: config.architecture.normOffset ?? 0, pool: pool)
    let layout = GGUFLayout(config)
    var names = Dictionary(
      config.tensorNames.map { (layout.name(of: $0), $0) }, uniquingKeysWith: { first, _ in first })
    var entries = like.storedTensors.map { tensor in
      GGUFWriter.Entry(name: tensor.name, type: storedType(tensor.shape, type), shape: tensor.shape)
    }
    if merge.untiesHead {
      guard layout.canUntieHead, let shape = like.shape(of: WeightMerge.embedding) else {
        throw ModelError(
          adapter.lastPathComponent,
          reason:
            "gives the model a head that is not its embedding, which llama.cpp does not read of \(layout.architecture)"
        )
      }
      let name = layout.name(of: WeightMerge.head)
      names[name] = WeightMerge.head
      entries.append(GGUFWriter.Entry(name: name, type: storedType(shape, type), shape: shape))
    }
    let replaced: [(key: String, value: GGUFWriter.Value)] = [
      ("general.file_type", .uint32(type.fileType)), ("general.quantization_version", .uint32(2)),
    ]
    let kept = try like.encodedMetadata().filter { pair in !replaced.contains { $0.key == pair.key } }
    let writer = try GGUFWriter(file, metadata: kept + replaced, entries: entries)
    let total = entries.reduce(0) { $0 + $1.elementCount }
    var written = 0
    for entry in entries {
      let source = Source(base: base, like: like, layout: layout, entry: entry, name: names[entry.name])
      try merge.copy(
        source.name ?? entry.name, shape: entry.shape, place: source.place, read: source.read,
        write: { values in
          try writer.append(values)
          written += values.count
          try progress(Double(written) / Double(max(total, 1)))
        })
    }
    try writer.finish()
    return merge.baseModel
  }

  private static func storedType(_ shape: [Int], _ type: GGUFTensorType) -> GGUFTensorType {
    guard shape.count > 1, let columns = shape.last else { return .f32 }
    guard let block = type.block, columns % block.elements == 0 else { return .f16 }
    return type
  }

  /// A tensor of the file that is written, read from the base in the file's order.
  private struct Source {
    let base: any PublishedModel
    let like: GGUFModel
    let entry: GGUFWriter.Entry
    /// Hugging Face's name; `nil` for a table of rotary frequencies, which both files have alike.
    let name: String?
    /// Hugging Face's row, by the row of the file; `nil` where they are the same.
    private let order: [Int]?
    private let layout: GGUFLayout
    private let projection: Projection?

    init(base: any PublishedModel, like: GGUFModel, layout: GGUFLayout, entry: GGUFWriter.Entry, name: String?) {
      (self.base, self.like, self.layout, self.entry, self.name) = (base, like, layout, entry, name)
      let projection = Projection.allCases.first { name?.contains(".\($0.rawValue).") == true }
      self.projection = projection
      guard let projection, layout.permutes(projection) else {
        order = nil
        return
      }
      var order = [Int](repeating: 0, count: entry.shape[0])
      for row in order.indices { order[layout.row(row, of: projection)] = row }
      self.order = order
    }

    /// The file's row of one of Hugging Face's rows.
    func place(_ row: Int) -> Int { projection.map { layout.row(row, of: $0) } ?? row }

    func read(_ rows: Range<Int>, _ values: UnsafeMutableBufferPointer<Float>) throws {
      guard var name else { return try like.readStored(entry.name, rows: rows, into: values) }
      // A tied head is the embedding.
      if name == WeightMerge.head, base.config.tiedHead { name = WeightMerge.embedding }
      guard let order else { return try base.read(name, rows: rows, into: values) }
      guard entry.shape.count == 2 else {
        // A bias is one row, whose elements are in the order of the matrix's rows.
        let own = try [Float](unsafeUninitializedCapacity: values.count) { buffer, initialized in
          try base.read(name, rows: 0..<1, into: UnsafeMutableBufferPointer(rebasing: buffer[..<values.count]))
          initialized = values.count
        }
        for (index, row) in order.enumerated() { values[index] = own[row] }
        return
      }
      let columns = entry.shape[1]
      for (index, row) in rows.enumerated() {
        let part = values[index * columns..<(index + 1) * columns]
        try base.read(name, rows: order[row]..<order[row] + 1, into: UnsafeMutableBufferPointer(rebasing: part))
      }
    }
  }
}
