package import Foundation

/// The safetensors files of a Hugging Face folder: model.safetensors, or the shards that model.safetensors.index.json
/// lists.
package struct SafetensorsFolder {
  /// Every file that was read, the index included.
  let files: [URL]
  /// The file that holds each tensor.
  private let owners: [String: SafetensorsFile]

  private static let indexLimit = 64 << 20
  private static let shardLimit = 4096

  /// - Throws: `ModelError` naming a shard that is missing or outside the folder, or a tensor that is not in the shard which
  ///   the index says, or that is in two shards
  package init(_ folder: URL) throws { try self.init(folder, naming: { $0 }) }

  /// - Parameters:
  ///   - naming: what a tensor is called here, by its name in the files; `nil` for one that is passed over
  ///   - headerLimit: the maximum bytes of all files' headers together
  init(_ folder: URL, naming: (String) -> String?, headerLimit: Int = SafetensorsFile.headerLimit) throws {
    let single = folder.appendingPathComponent("model.safetensors")
    if FileManager.default.fileExists(atPath: single.path) {
      let file = try SafetensorsFile(single, naming: naming)
      files = [single]
      owners = file.tensors.mapValues { _ in file }
      return
    }
    let indexName = "model.safetensors.index.json"
    let index = folder.appendingPathComponent(indexName)
    guard FileManager.default.fileExists(atPath: index.path) else {
      throw try Self.missing(in: folder)
    }
    let text = try MappedFile.contents(of: index, limit: Self.indexLimit)
    guard let map = try JSONValue.parse(text, subject: indexName, limits: .file()).object?["weight_map"]?.object,
      !map.isEmpty
    else {
      throw ModelError(indexName, reason: "has no weight_map")
    }
    var shardOf: [String: String] = [:]
    var names: Set<String> = []
    for (name, value) in map.pairs {
      guard let shard = value.string, Self.isPlainName(shard) else {
        throw ModelError(indexName, name, reason: "is not in a safetensors file of this folder")
      }
      names.insert(shard)
      if let name = naming(name) { shardOf[name] = shard }
    }
    let shards = names.sorted()
    guard shards.count <= Self.shardLimit else { throw ModelError(indexName, reason: "lists \(shards.count) files") }
    var owners: [String: SafetensorsFile] = [:]
    var headerBytes = 0
    for shard in shards {
      let file = try SafetensorsFile(folder.appendingPathComponent(shard), naming: naming)
      headerBytes += file.headerLength
      guard headerBytes <= headerLimit else {
        throw ModelError(
          shard, reason: "its header and those of the files before it have more than \(headerLimit) bytes")
      }
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

  /// The error for a folder without safetensors files. It names a file of another format if the folder has one.
  private static func missing(in folder: URL) throws -> ModelError {
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
    let pickle = names.first {
      $0.hasPrefix("pytorch_model") && ($0.hasSuffix(".bin") || $0.hasSuffix(".bin.index.json"))
    }
    if let pickle {
      return ModelError(pickle, reason: "PyTorch's pickle files are not read; convert the weights to safetensors")
    }
    if let original = names.first(where: { $0.hasPrefix("consolidated") }) {
      return ModelError(
        original, reason: "has the original names of its weights; use the Hugging Face form of the model")
    }
    if let file = names.first(where: { $0.hasSuffix(".gguf") }) {
      return ModelError(file, reason: "of a GGUF model, name the file and not its folder")
    }
    return ModelError(folder.path, reason: "has neither model.safetensors nor model.safetensors.index.json")
  }

  /// Whether a shard's name cannot lead out of the folder.
  private static func isPlainName(_ name: String) -> Bool {
    // Bytes, since a combining mark makes another character of a slash before it.
    name.hasSuffix(".safetensors") && name.utf8.first != UInt8(ascii: ".") && name.utf8.count <= 255
      && !name.utf8.contains { $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "\\") || $0 == 0 }
  }

  /// The names of all tensors, sorted.
  package var names: [String] { owners.keys.sorted() }

  /// The file that holds a tensor; `nil` if there is none of this name.
  package func file(of name: String) -> SafetensorsFile? { owners[name] }

  /// The header's entry of a tensor; `nil` if there is none of this name.
  package func tensor(_ name: String) -> SafetensorsFile.Tensor? { owners[name]?.tensors[name] }

  /// The name of the file that holds a tensor, for errors.
  package func subject(_ name: String) -> String { owners[name]?.url.lastPathComponent ?? "model.safetensors" }

  /// Whether two tensors have the same type, shape and bytes; false if one is missing.
  /// - Throws: `ModelError` for a file that cannot be read
  func areEqual(_ a: String, _ b: String) throws -> Bool {
    guard let fileA = owners[a], let fileB = owners[b] else { return false }
    let (first, second) = (try fileA.tensor(a), try fileB.tensor(b))
    guard first.type == second.type, first.shape == second.shape else { return false }
    let count = first.byteRange.count
    for start in stride(from: 0, to: count, by: Self.comparedBytes) {
      let range = start..<min(start + Self.comparedBytes, count)
      if try fileA.bytes(a, range: range) != fileB.bytes(b, range: range) { return false }
    }
    return true
  }

  /// Bytes of each tensor that are in memory while the two are compared.
  private static let comparedBytes = 1 << 20
}
