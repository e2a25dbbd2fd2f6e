import ArgumentParser
import Client
import Foundation
import Formats
import Kernels
import Model
import Serve

struct LoadAdapter: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "load", abstract: "Registers a PEFT folder under a name, as a new version if the name has one.",
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

  @Argument(help: "The folder with adapter_config.json and adapter_model.safetensors.")
  var path: String

  func validate() throws {
    if server.url == nil { try options.requireModel() }
  }

  func run() throws {
    let url = URL(filePath: path).standardizedFileURL
    if let client = try server.client() {
      let problems = PEFTInspection(folder: url).problems
      if let problem = problems.first { throw ModelError(path, reason: problem) }
      let files = [PEFTFolder.configurationFile, PEFTFolder.weightsFile].map { url.appending(path: $0) }
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
