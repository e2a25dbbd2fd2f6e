import ArgumentParser

struct ExportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "export",
    abstract: "Writes adapters, and models with an adapter merged into them, in the forms of other programs.",
    discussion: """
      What is written appears whole or not at all. Nothing that exists is replaced: name a new file or folder.
      """,
    subcommands: [
      ExportGGUF.self, ExportMLX.self, ExportPEFT.self, ExportMerged.self, ExportBitsAndBytes.self, ExtractAdapter.self,
    ])
}
