import ArgumentParser
import Client
import Formats
import Serve

struct RemoveAdapter: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "remove", abstract: "Deletes an adapter, or one version of it.",
    usage: "graft adapters remove [<options>] <name>")

  @OptionGroup var installation: InstallationOptions

  @Option(help: "Only this version.")
  var version: Int?

  @Argument(help: "The adapter's name.")
  var name: String

  func run() throws {
    switch try installation.open() {
    case .server(let client): try client.remove(name: name, version: version)
    case .folder(let folder, let database):
      try AdapterStore(dataFolder: folder, database: database, binding: .none).remove(name: name, version: version)
    }
  }
}

struct UnloadAdapter: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "unload", abstract: "Takes a name away from requests until it is loaded again; its files stay.",
    usage: "graft adapters unload [<options>] <name>")

  @OptionGroup var installation: InstallationOptions

  @Argument(help: "The adapter's name.")
  var name: String

  func run() throws {
    switch try installation.open() {
    case .server(let client): try client.unload(name: name)
    case .folder(let folder, let database):
      try AdapterStore(dataFolder: folder, database: database, binding: .none).unload(name: name)
    }
  }
}
