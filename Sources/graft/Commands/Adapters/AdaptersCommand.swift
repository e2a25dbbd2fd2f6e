import ArgumentParser

struct AdaptersCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "adapters",
    abstract: "Lists, loads, combines, unloads, removes and inspects adapters, on a server or in a data folder.",
    discussion: """
      With --url the commands work on a running server, here or elsewhere. Without it they work on the data folder, \
      which no server may use meanwhile.
      """,
    subcommands: [
      ListAdapters.self, LoadAdapter.self, CombineAdapters.self, UnloadAdapter.self, RemoveAdapter.self,
      InspectAdapter.self,
      PruneAdapters.self,
    ])
}
