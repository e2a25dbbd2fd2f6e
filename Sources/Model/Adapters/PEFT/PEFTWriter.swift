public import Formats
public import Foundation

/// Writes an adapter as PEFT does: adapter_model.safetensors in f32, and adapter_config.json.
public enum PEFTWriter {
  /// Writes both files, each of which appears whole or not at all; the configuration comes last.
  /// - Parameters:
  ///   - configuration: adapter_config.json
  ///   - tensors: name (`PEFTTensorName`) and shape of each tensor
  ///   - folder: exists
  ///   - values: a tensor's values by its name, row-major, as many as its shape says; valid until the next call
  /// - Throws: `ModelError` naming the file that cannot be written
  public static func write(
    configuration: JSONValue, tensors: [(name: String, shape: [Int])], to folder: URL,
    values: (String) -> UnsafePointer<Float>
  ) throws {
    try write(configuration: configuration.encoded, tensors: tensors, to: folder) { entry, writer in
      try writer.append(UnsafeRawBufferPointer(start: values(entry.name), count: entry.byteCount))
    }
  }

  /// The same with tensors that are read when they are written, so that one is in memory at a time.
  /// - Parameter read: a tensor's values by its name
  /// - Throws: `ModelError` naming the tensor whose values are not as many as its shape says, or the file, and what `read` throws
  static func write(
    configuration: [UInt8], tensors: [(name: String, shape: [Int])], to folder: URL, read: (String) throws -> [Float]
  ) throws {
    try write(configuration: configuration, tensors: tensors, to: folder) { entry, writer in
      let values = try read(entry.name)
      guard values.count * 4 == entry.byteCount else {
        throw ModelError(entry.name, reason: "has not as many values as its shape says")
      }
      try values.withUnsafeBytes { try writer.append($0) }
    }
  }

  private static func write(
    configuration: [UInt8], tensors: [(name: String, shape: [Int])], to folder: URL,
    append: (SafetensorsWriter.Entry, SafetensorsWriter) throws -> Void
  ) throws {
    let writer = try SafetensorsWriter(
      folder.appending(path: PEFTFolder.weightsFile),
      entries: tensors.map { SafetensorsWriter.Entry(name: $0.name, type: .f32, shape: $0.shape) },
      metadata: ["format": "pt"])
    for entry in writer.order { try append(entry, writer) }
    try writer.finish()
    try AtomicFile.write(configuration, to: folder.appending(path: PEFTFolder.configurationFile))
  }
}
