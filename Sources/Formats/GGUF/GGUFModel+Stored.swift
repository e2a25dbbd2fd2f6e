/// A model as its files have it, for writing another file like it.
extension GGUFModel {
  /// The tensors under the file's names, in the file's order.
  package var storedTensors: [GGUFFile.Tensor] {
    shards.files.flatMap { file in
      file.tensors.values.sorted { ($0.byteRange?.lowerBound ?? 0, $0.name) < ($1.byteRange?.lowerBound ?? 0, $1.name) }
    }
  }

  /// Reads rows of a tensor in the file's order.
  /// - Parameter name: the file's
  /// - Throws: `ModelError` naming file and tensor
  package func readStored(
    _ name: String, rows: Range<Int>, into destination: UnsafeMutableBufferPointer<Float>
  ) throws {
    try shards.readRows(name, rows: rows, into: destination)
  }

  /// The metadata as the file has them, without those that say how the model is split.
  /// - Throws: `ModelError` for a file that was made shorter meanwhile
  package func encodedMetadata() throws -> [(key: String, value: GGUFWriter.Value)] {
    try shards.first.encodedMetadata().filter { !$0.key.hasPrefix("split.") }
  }
}

extension GGUFFile {
  /// The metadata in the file's order, each value with its type as the file has it.
  fileprivate func encodedMetadata() throws -> [(key: String, value: GGUFWriter.Value)] {
    // After the magic, the version and the count of tensors comes the count of pairs.
    var reader = GGUFReader(file: file, offset: 16)
    let count = try reader.count(limit: file.count, of: "metadata pairs")
    return try (0..<count).map { _ in
      let key = try reader.string()
      let start = reader.offset
      _ = try reader.value(reader.valueType())
      return (key, .encoded(try file.read(offset: start, count: reader.offset - start)))
    }
  }
}
