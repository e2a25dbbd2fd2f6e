import Formats
import Foundation

/// Which tensors each file of a safetensors folder holds: "model.safetensors", or "model-00001-of-00003.safetensors" and so
/// on with an index, as transformers writes them.
struct ShardPlan {
  /// A file and its tensors.
  struct File {
    let name: String
    let entries: [SafetensorsWriter.Entry]
  }

  let files: [File]
  /// Bytes of all tensors.
  let byteCount: Int

  /// - Parameters:
  ///   - entries: in the order in which they fill the files
  ///   - size: the maximum of a file's tensors in bytes; a larger tensor has a file of its own
  init(_ entries: [SafetensorsWriter.Entry], size: Int) {
    var parts: [[SafetensorsWriter.Entry]] = []
    var filled = 0
    for entry in entries {
      if parts.isEmpty || filled + entry.byteCount > size {
        parts.append([])
        filled = 0
      }
      parts[parts.count - 1].append(entry)
      filled += entry.byteCount
    }
    func padded(_ number: Int) -> String {
      let digits = String(number)
      return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
    }
    files = parts.enumerated().map { index, entries in
      let name = parts.count == 1 ? "model" : "model-\(padded(index + 1))-of-\(padded(parts.count))"
      return File(name: name + ".safetensors", entries: entries)
    }
    byteCount = entries.reduce(0) { $0 + $1.byteCount }
  }

  /// Writes model.safetensors.index.json, if there are several files.
  func writeIndex(to folder: AtomicFolder) throws {
    guard files.count > 1 else { return }
    let map = files.flatMap { file in file.entries.map { (key: $0.name, value: JSONValue.string(file.name)) } }
    let index: JSONValue = [
      "metadata": ["total_size": .integer(byteCount)],
      "weight_map": .object(JSONObject(keepingFirst: map.sorted { $0.key < $1.key })),
    ]
    try AtomicFile.write(index.encoded, to: folder.file("model.safetensors.index.json"))
  }
}
