import ArgumentParser
import Kernels
import Testing

@testable import graft

/// The help of the commands, and what `--version` prints.
@Suite struct HelpTests {
  private static func leaves(_ command: CommandDescription, _ path: String = "") -> [(String, CommandDescription)] {
    let name = path + " " + command.commandName
    return command.subcommands.isEmpty ? [(name, command)] : command.subcommands.flatMap { leaves($0, name) }
  }

  @Test func manyOptionsAreInGroups() throws {
    var checked: [String] = []
    for (name, command) in Self.leaves(try CommandDescription(Graft.self)) {
      let options = command.arguments.filter { $0.optionName != nil }
      guard options.count > 8 else { continue }
      checked.append(name)
      let titles = Set(options.compactMap(\.sectionTitle))
      #expect(!titles.isEmpty, "\(name)")
      #expect(options.count { $0.sectionTitle == nil } <= 10, "\(name)")
    }
    for name in [" graft serve", " graft train", " graft bench", " graft generate"] { #expect(checked.contains(name)) }
  }

  @Test func theVersionNamesWhatItIsBuiltOf() throws {
    let lines = VersionReport.text(try #require(KernelSet(.scalar))).split(separator: "\n")
    #expect(lines.count == 4 && lines[0].hasSuffix(" (kernels: scalar)"))
    #expect(lines[1].wholeMatch(of: /commit: (unknown|[0-9a-f]{12}(, changed)?)/) != nil, "\(lines[1])")
    for name in ["tile-reference", "scalar"] { #expect(lines[2].contains(name)) }
    let libraries = lines[3].dropFirst("libraries: ".count).split(separator: ", ")
    #expect(libraries.count == 7)
    for library in libraries { #expect(library.firstMatch(of: #/ [0-9]+\.[0-9]+/#) != nil, "\(library)") }
  }
}
