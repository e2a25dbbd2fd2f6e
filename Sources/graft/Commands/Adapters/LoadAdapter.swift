import ArgumentParser
import Client
import Foundation
import Formats
import Kernels
import Model
import Serve

struct LoadAdapter: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "load", abstract: "Registers an adapter under a name, as a new version if the name has one.",
    discussion: """
      With --url the folder's files are uploaded to that server, and --model is not needed. Without it the adapter is \
      put into the data folder, for the base that --model names.
      """)

  @OptionGroup var server: ServerOptions

  @OptionGroup(title: "Without a server") var options: ModelOptions

  @Option(help: "The id under which the server lists the base, which no adapter can have (default: the model's stem).")
  var servedModelName: String = ""

  @Flag(help: "Keeps the adapter in a server's memory.")
  var pinned = false

  @Argument(help: "The name that requests will use.")
  var name: String

  @Argument(help: "A PEFT folder, an MLX-LM folder, or an adapter in GGUF.")
  var path: String

  func validate() throws {
    if server.url == nil { try options.requireModel() }
  }

  /// The files to upload. A server rewrites other forms than PEFT's itself.
  private func uploads(of url: URL) throws -> [URL] {
    let names = AdapterImport.files(in: url)
    guard !names.isEmpty else { return [url] }
    if names.contains(where: { $0.contains("/") }) {
      throw ModelError(path, reason: "has an initial adapter beside it; load it without --url, or save the difference")
    }
    if !names.contains(where: AdapterImport.isForeign), let problem = PEFTInspection(folder: url).problems.first {
      throw ModelError(path, reason: problem)
    }
    return names.map { url.appending(path: $0) }
  }

  func run() throws {
    let url = URL(filePath: path).standardizedFileURL
    if let client = try server.client() {
      let files = try uploads(of: url)
      let version = try client.load(name: name, files: files, pinned: pinned)["version"]?.integer
      return print("\(name)@\(version ?? 0)")
    }
    try options.requireModel()
    let folder = try DataFolder(URL(filePath: options.dataDir))
    let database = try MetadataDatabase(folder)
    // Checked before the base is prepared, which may take minutes.
    let baseName = servedModelName.isEmpty ? options.modelStem : servedModelName
    try AdapterStore(
      dataFolder: folder, database: database, binding: .none, settings: .init(reservedNames: [baseName])
    ).check(name: name)
    let source = try openPublishedModel(at: options.modelURL)
    let base = try openBase(source, options, ThreadPool(threads: options.arithmetic.threads))
    let store = try AdapterStore(
      dataFolder: folder, database: database,
      binding: .init(
        fingerprint: base.fingerprint, preparer: AdapterPreparer(base: base, mode: options.arithmetic.compute)),
      settings: .init(reservedNames: [baseName]))
    let record = try store.load(name: name, folder: url, origin: url.path, pinned: pinned ? true : nil)
    print("\(name)@\(record.currentNumber ?? 0)")
  }
}
