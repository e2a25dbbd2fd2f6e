import ArgumentParser
import Foundation
import Serve

struct BackupCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "backup", abstract: "Copies a data folder, while a server uses it, too.",
    discussion: """
      The copy has the database, adapters, files, jobs and batches with their SHA-256, and no prepared bases, which are \
      made again from the model. 'graft restore' makes a data folder of it.
      """)

  @Option(help: "The data folder to copy.")
  var dataDir: String = DataFolder.defaultPath

  @Argument(help: "The folder to make.")
  var target: String

  func run() throws {
    let target = URL(filePath: target).standardizedFileURL
    let summary = try FolderBackup.make(of: URL(filePath: dataDir).standardizedFileURL, at: target)
    writeError("\(summary.files) files, \(Quantity.bytes(summary.bytes))")
    for missing in summary.missing {
      writeError("graft: the data folder has lost \(missing), which its database names")
    }
    print(target.path)
  }
}

struct RestoreCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "restore", abstract: "Makes a data folder of a backup, after it has checked every file.",
    discussion: "The data folder must be missing or empty. If a file is damaged, no folder is made.")

  @Option(help: "The data folder to make.")
  var dataDir: String = DataFolder.defaultPath

  @Argument(help: "A folder that 'graft backup' made.")
  var backup: String

  func run() throws {
    let folder = URL(filePath: dataDir).standardizedFileURL
    let summary = try FolderBackup.restore(URL(filePath: backup).standardizedFileURL, to: folder)
    writeError("\(summary.files) files, \(Quantity.bytes(summary.bytes)); all are as they were recorded")
    print(folder.path)
  }
}
