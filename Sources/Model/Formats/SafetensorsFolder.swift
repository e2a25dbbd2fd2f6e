import Foundation

/// The safetensors of a Hugging Face folder: model.safetensors, or the shards that model.safetensors.index.json lists.
struct SafetensorsFolder {
  /// Every file that was read, the index included.
  let files: [URL]
  /// Which file holds each tensor.
  private let owners: [String: SafetensorsFile]

  private static let indexLimit = 64 << 20
  private static let shardLimit = 4096

  /// Throws `ModelError` naming the file, for a shard that is missing or outside the folder, and the tensor, for one
  /// that is not where the index says, or in two shards.
  init(_ folder: URL) throws {
    let single = folder.appendingPathComponent("model.safetensors")
    if FileManager.default.fileExists(atPath: single.path) {
      let file = try SafetensorsFile(single)
      files = [single]
      owners = file.tensors.mapValues { _ in file }
      return
    }
    let indexName = "model.safetensors.index.json"
    let index = folder.appendingPathComponent(indexName)
    guard FileManager.default.fileExists(atPath: index.path) else {
      throw ModelError(folder.path, reason: "has neither model.safetensors nor \(indexName)")
    }
    let text = try MappedFile.contents(of: index, limit: Self.indexLimit)
    guard let map = try JSONValue.parse(text, subject: indexName).object?["weight_map"]?.object, !map.isEmpty else {
      throw ModelError(indexName, reason: "has no weight_map")
    }
    var shardOf: [String: String] = [:]
    for (name, value) in map.pairs {
      guard let shard = value.string, Self.isPlainName(shard) else {
        throw ModelError(indexName, name, reason: "is not in a safetensors file of this folder")
      }
      shardOf[name] = shard
    }
    let shards = Set(shardOf.values).sorted()
    guard shards.count <= Self.shardLimit else { throw ModelError(indexName, reason: "lists \(shards.count) files") }
    var owners: [String: SafetensorsFile] = [:]
    for shard in shards {
      let file = try SafetensorsFile(folder.appendingPathComponent(shard))
      for name in file.tensors.keys.sorted() {
        guard owners.updateValue(file, forKey: name) == nil else {
          throw ModelError(shard, name, reason: "is in another file too")
        }
        if let expected = shardOf[name], expected != shard {
          throw ModelError(shard, name, reason: "is here, but \(indexName) says \(expected)")
        }
      }
    }
    for (name, shard) in shardOf where owners[name] == nil { throw ModelError(shard, name, reason: "missing") }
    files = [index] + shards.map { folder.appendingPathComponent($0) }
    self.owners = owners
  }

  /// A file name that cannot lead out of its folder.
  private static func isPlainName(_ name: String) -> Bool {
    name.hasSuffix(".safetensors") && !name.hasPrefix(".") && name.utf8.count <= 255
      && !name.contains { $0 == "/" || $0 == "\\" || $0 == "\0" }
  }

  var names: [String] { owners.keys.sorted() }

  func file(of name: String) -> SafetensorsFile? { owners[name] }

  func tensor(_ name: String) -> SafetensorsFile.Tensor? { owners[name]?.tensors[name] }

  /// The file's name for errors about a tensor.
  func subject(_ name: String) -> String { owners[name]?.url.lastPathComponent ?? "model.safetensors" }
}
