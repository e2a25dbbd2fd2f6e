import ArgumentParser
import Client
import Foundation
import Serve

/// The options of every command that can work through a running server.
struct ServerOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "A running server's address, such as http://127.0.0.1:8080, here or elsewhere.", valueName: "url"))
  var url: String?

  @Option(help: ArgumentHelp("The server's API key.", valueName: "key"))
  var apiKey: String = ""

  /// The server, if its address was given and no data folder beats it: what the command line gives goes before a variable.
  /// - Throws: `ValidationError` if the command line gives both, `ClientError` for an address that is none
  func client() throws -> ServerClient? {
    guard let url, !url.isEmpty else { return nil }
    let arguments = CommandLine.arguments
    func isTyped(_ option: String) -> Bool { arguments.contains { $0 == option || $0.hasPrefix(option + "=") } }
    if isTyped("--data-dir") {
      guard !isTyped("--url") else {
        throw ValidationError("--url and --data-dir do not go together: the first means a server, the second a folder")
      }
      return nil
    }
    return try ServerClient(url: url, key: apiKey)
  }
}

/// What the commands for adapters and jobs work on: a running server, or a data folder that no server uses.
enum Installation {
  case server(ServerClient)
  case folder(DataFolder, MetadataDatabase)
}

/// The options that say which installation is meant.
struct InstallationOptions: ParsableArguments {
  @OptionGroup var server: ServerOptions

  @Option(help: ArgumentHelp("The data folder, if no server uses it.", valueName: "folder"))
  var dataDir: String = DataFolder.defaultPath

  /// - Throws: `ModelError` naming the server that uses the folder
  func open() throws -> Installation {
    if let client = try server.client() { return .server(client) }
    let folder = try DataFolder(URL(filePath: dataDir))
    return .folder(folder, try MetadataDatabase(folder))
  }
}

/// The option of every command whose output other programs read.
struct JSONOption: ParsableArguments {
  @Flag(help: "Print JSON, for scripts.")
  var json = false
}
