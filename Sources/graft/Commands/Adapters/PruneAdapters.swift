import ArgumentParser
import Foundation
import Formats
import Serve

struct PruneAdapters: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "prune",
    abstract: "Deletes old versions, and what no record of the database names; prints what went.",
    usage: "graft adapters prune [<options>]",
    discussion: """
      Adapters, files and jobs that no record names stay until this command deletes them. It is also how to go on in a \
      data folder whose database was lost: the adapters and files in it then go. --dry-run shows what would.
      """)

  @Option(help: ArgumentHelp("The data folder; no server may use it meanwhile.", valueName: "folder"))
  var dataDir: String = ModelOptions.defaultDataFolder

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
    let folder = try DataFolder(URL(filePath: dataDir))
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
