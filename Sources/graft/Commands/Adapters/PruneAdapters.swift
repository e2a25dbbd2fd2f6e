import ArgumentParser
import Client
import Formats
import Foundation
import Serve

struct PruneAdapters: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "prune",
    abstract: "Deletes old versions, and what no record of the database names; prints what went.",
    usage: "graft adapters prune [<options>]",
    discussion: """
      Adapters, files and jobs that no record names stay until this command deletes them. It is also how to go on in a \
      data folder whose database was lost: the adapters and files in it then go. --dry-run shows what would.

      With --url, only versions are deleted: what no record names stays until no server uses the folder.
      """)

  @OptionGroup var installation: InstallationOptions

  @Option(help: "How many versions of a name are kept.")
  var keepVersions: Int = 5

  @Flag(help: "Deletes names that are unloaded, too.")
  var unloaded = false

  @Flag(help: "Only prints what would be deleted: on a server versions, in a folder what no record names.")
  var dryRun = false

  func validate() throws {
    guard keepVersions >= 1 else { throw ValidationError("--keep-versions must be at least 1") }
  }

  func run() throws {
    if let client = try installation.server.client() { return try prune(client) }
    let folder = try DataFolder(URL(filePath: installation.dataDir))
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

  /// Deletes versions on a running server.
  private func prune(_ client: ServerClient) throws {
    for listing in try client.adapters() {
      guard let name = listing["name"]?.string else { continue }
      for version in Self.surplus(of: listing, keeping: keepVersions, unloaded: unloaded) {
        if !dryRun { try client.remove(name: name, version: version) }
        print("\(name)@\(version)")
      }
    }
  }

  /// The versions of an adapter that go, the oldest first.
  /// - Parameter listing: an element of `GET /v1/adapters`
  static func surplus(of listing: JSONValue, keeping count: Int, unloaded: Bool) -> [Int] {
    let versions = (listing["versions"]?.array ?? []).compactMap { $0["version"]?.integer }.sorted()
    if unloaded, listing["state"]?.string == "unloaded" { return versions }
    return AdapterStore.surplus(of: versions, current: listing["version"]?.integer, keeping: count).sorted()
  }
}
