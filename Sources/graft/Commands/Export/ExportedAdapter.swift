import ArgumentParser
import Formats
import Foundation
import Model
import Serve

/// The adapter that a command exports.
struct ExportedAdapter: ParsableArguments {
  @Option(help: ArgumentHelp("The data folder of an adapter that is named; no server may use it.", valueName: "folder"))
  var dataDir: String = DataFolder.defaultPath

  @Argument(
    help: "A PEFT or MLX-LM folder, an adapter in GGUF, or a name in the data folder: NAME or NAME@VERSION.")
  var adapter: String

  /// Calls `body` with the adapter's PEFT folder, its name, and the fingerprint of the base that it was registered for, which
  /// a folder does not say. A data folder is locked meanwhile.
  /// - Parameter config: the base's, asked for if the adapter's form needs its sizes
  /// - Throws: `ModelError` naming the adapter that is neither, and what `body` throws
  func withFolder(
    config: @autoclosure () throws -> ModelConfig,
    _ body: (_ folder: URL, _ name: String, _ base: String?) throws -> Void
  ) throws {
    let url = URL(filePath: adapter).standardizedFileURL
    if FileManager.default.fileExists(atPath: url.path) {
      AdapterImport.writeNotes(url)
      return try AdapterImport.withPEFTFolder(url, config: config()) { try body($0, $0.lastPathComponent, nil) }
    }
    guard FileManager.default.fileExists(atPath: dataDir) else {
      throw ModelError(adapter, reason: "is no folder, and there is no data folder \(dataDir)")
    }
    let data = try DataFolder(URL(filePath: dataDir))
    let store = try AdapterStore(dataFolder: data, database: MetadataDatabase(data), binding: .none)
    let (name, version) = try find(in: store)
    try store.contents.verify(version.contentHash)
    try body(store.contents.location(version.contentHash), name, version.base.isEmpty ? nil : version.base)
  }

  private func find(in store: AdapterStore) throws -> (name: String, version: AdapterVersion) {
    if let version = store.listing(adapter)?.record.current { return (adapter, version) }
    if let at = adapter.lastIndex(of: "@"), let number = Int(adapter[adapter.index(after: at)...]) {
      let name = String(adapter[..<at])
      if let version = store.listing(name)?.record.version(number) { return (name, version) }
    }
    throw ModelError(
      adapter, reason: "is neither a folder nor an adapter of \(dataDir); 'graft adapters list' has the names")
  }
}

/// The base that an adapter is for.
struct ExportBase: ParsableArguments {
  @Option(help: "The base: a GGUF file, or a folder with config.json, *.safetensors and tokenizer.json.")
  var model: String

  var url: URL { URL(filePath: model).standardizedFileURL }

  /// The base's sizes. The weights of a folder need not be there.
  func config() throws -> ModelConfig { try openConfiguration(at: url).config }

  /// The base's embedding and head.
  func tables() throws -> BaseTables { BaseTables(try openPublishedModel(at: url)) }
}

/// How the files of a model are written.
struct ExportedFiles: ParsableArguments {
  @Option(help: "The maximum size of a file's weights, in KiB, MiB or GiB.")
  var shardSize: ByteSize = ByteSize(bytes: MergedFolder.shardSize)

  @Option(help: "Threads that compute.")
  var threads: Int = ProcessInfo.processInfo.activeProcessorCount

  func validate() throws {
    guard (1...1024).contains(threads) else { throw ValidationError("--threads must be between 1 and 1024") }
    guard shardSize.bytes > 0 else { throw ValidationError("--shard-size must be positive") }
  }
}
