import Formats
import ArgumentParser
import Foundation
import Kernels
import Model
import Serve

struct AdaptersCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "adapters",
    abstract: "Lists, loads and removes the adapters of a data folder that no server is using.",
    subcommands: [ListAdapters.self, LoadAdapter.self, RemoveAdapter.self, PruneAdapters.self])
}

/// The option `--data-dir`, for commands that need no model.
private struct DataOptions: ParsableArguments {
  @Option(help: "Where prepared bases and the server's state are kept.")
  var dataDir: String = ModelOptions.defaultDataFolder

  func store() throws -> AdapterStore {
    let folder = try DataFolder(URL(filePath: dataDir))
    return try AdapterStore(dataFolder: folder, database: try MetadataDatabase(folder), binding: .none)
  }
}

private struct ListAdapters: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "One line for each version: name, state, rank, bytes, content hash, base, targets.")

  @OptionGroup var options: DataOptions

  func run() throws {
    let folder = try DataFolder(URL(filePath: options.dataDir))
    let database = try MetadataDatabase(folder)
    for listing in try AdapterStore(dataFolder: folder, database: database, binding: .none).listings {
      for version in listing.record.versions {
        let isCurrent = version.number == listing.record.currentNumber
        let state = state(listing, version, isCurrent: isCurrent)
        print(
          "\(listing.record.name)@\(version.number)\t\(state)\trank \(version.rank)\t\(version.fileBytes) bytes"
            + "\t\(version.contentHash.prefix(12))\tbase \(version.base.prefix(12))\t"
            + version.targets.joined(separator: ","))
      }
      if let warning = listing.warning { writeError("graft: '\(listing.record.name)': \(warning)") }
    }
    let unrecorded = try folder.unrecorded(in: database)
    if !unrecorded.isEmpty {
      writeError("graft: no record names \(unrecorded.summary); 'prune' deletes what none names")
    }
  }

  private func state(_ listing: AdapterListing, _ version: AdapterVersion, isCurrent: Bool) -> String {
    if case .refused(let error) = listing.versionStates[version.number] { return error.advice }
    if !listing.record.isLoaded { return "unloaded" }
    if !isCurrent { return "old" }
    return listing.record.isPinned ? "current, pinned" : "current"
  }
}

private struct LoadAdapter: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "load", abstract: "Registers a PEFT folder under a name, as a new version if the name has one.")

  @OptionGroup var options: ModelOptions

  @Option(help: "The id under which the server lists the base, which no adapter can have (default: the model's stem).")
  var servedModelName: String = ""

  @Flag(help: "Keeps the adapter in a server's memory.")
  var pinned = false

  @Argument(help: "The name that requests will use.")
  var name: String

  @Argument(help: "The folder with adapter_config.json and adapter_model.safetensors.")
  var path: String

  func validate() throws { try options.requireModel() }

  func run() throws {
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
    let url = URL(filePath: path).standardizedFileURL
    let record = try store.load(name: name, folder: url, origin: url.path, pinned: pinned ? true : nil)
    print("\(name)@\(record.currentNumber ?? 0)")
  }
}

private struct RemoveAdapter: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "remove", abstract: "Deletes an adapter, or one version of it.")

  @OptionGroup var options: DataOptions

  @Option(help: "Only this version.")
  var version: Int?

  @Argument(help: "The adapter's name.")
  var name: String

  func run() throws { try options.store().remove(name: name, version: version) }
}

private struct PruneAdapters: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "prune",
    abstract: "Deletes old versions, and what no record of the database names; prints what went.",
    discussion: """
      Adapters, files and jobs that no record names stay until this command deletes them. It is also how to go on in a \
      data folder whose database was lost: the adapters and files in it then go. --dry-run shows what would.
      """)

  @OptionGroup var options: DataOptions

  @Option(help: "How many versions of a name are kept.")
  var keepVersions: Int = 5

  @Flag(help: "Deletes names that are unloaded, too.")
  var unloaded = false

  @Flag(help: "Only prints what would be deleted because no record names it.")
  var dryRun = false

  func validate() throws {
    guard keepVersions >= 1 else { throw ValidationError("--keep-versions must be at least 1") }
  }

  func run() throws {
    let folder = try DataFolder(URL(filePath: options.dataDir))
    if dryRun {
      for contents in try MetadataDatabase.unrecorded(in: folder) { print("\(contents.kind) \(contents.name)") }
      return
    }
    let database = try MetadataDatabase(folder, unknown: .takeOver)
    let store = try AdapterStore(dataFolder: folder, database: database, binding: .none)
    for dropped in try store.prune(keeping: keepVersions, unloaded: unloaded) {
      print("\(dropped.name)@\(dropped.version ?? 0)")
    }
    for contents in try folder.unrecorded(in: database) {
      try folder.remove(contents)
      print("\(contents.kind) \(contents.name)")
    }
  }
}
