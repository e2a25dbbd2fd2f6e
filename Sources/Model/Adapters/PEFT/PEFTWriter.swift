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
    let writer = try SafetensorsWriter(
      folder.appending(path: PEFTFolder.weightsFile),
      entries: tensors.map { SafetensorsWriter.Entry(name: $0.name, type: .f32, shape: $0.shape) },
      metadata: ["format": "pt"])
    for entry in writer.order {
      try writer.append(UnsafeRawBufferPointer(start: values(entry.name), count: entry.byteCount))
    }
    try writer.finish()
    try AtomicFile.write(configuration.encoded, to: folder.appending(path: PEFTFolder.configurationFile))
  }
}
