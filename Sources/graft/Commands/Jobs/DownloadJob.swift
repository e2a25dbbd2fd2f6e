import ArgumentParser
import Client
import Formats
import Foundation
import Model
import Serve

struct DownloadJob: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "download", abstract: "Saves a job's adapter as a PEFT folder.",
    usage: "graft jobs download [<options>] <id> <folder>")

  @OptionGroup var installation: InstallationOptions

  @Argument(help: "The job's id.") var id: String

  @Argument(help: "The folder to make; it must not exist or be empty.") var folder: String

  func run() throws {
    let target = URL(filePath: folder).standardizedFileURL
    try FolderAccess.checkIsEmpty(target, advice: "name a new folder")
    switch try installation.open() {
    case .server(let client):
      let files = try client.content(name: try result(of: client.job(id)))
      try FolderAccess.create(target)
      for file in files { try AtomicFile.write(file.data, to: target.appending(path: file.name)) }
    case .folder(let data, let database):
      let name = try result(of: StoredJobs(folder: data, database: database).job(id))
      let store = try AdapterStore(dataFolder: data, database: database, binding: .none)
      guard let version = store.listing(name)?.record.current else {
        throw ModelError(name, reason: "was removed since; 'graft adapters list' has what is left")
      }
      try FolderAccess.create(target)
      for name in [PEFTFolder.configurationFile, PEFTFolder.weightsFile] {
        try FileManager.default.copyItem(
          at: store.contents.location(version.contentHash).appending(path: name), to: target.appending(path: name))
      }
    }
    print(target.path)
  }

  private func result(of job: JSONValue) throws -> String {
    guard let name = job["fine_tuned_model"]?.string else {
      throw ModelError(
        id,
        reason: "has no adapter: its status is \(job["status"]?.string ?? "unknown"); 'graft jobs follow \(id)' waits")
    }
    return name
  }
}
