import ArgumentParser
import Foundation
import Synchronization

/// The argument parser's description of a command's arguments, as JSON for programs (`ToolInfoV0`, serialization
/// version 0).
struct CommandDescription: Decodable {
  /// An option, a flag or a positional argument.
  struct Argument: Decodable {
    struct Name: Decodable {
      let kind: String
      let name: String
    }

    let kind: String
    let names: [Name]?
    let defaultValue: String?
    let abstract: String?
    let sectionTitle: String?
    let valueName: String?
    let shouldDisplay: Bool?

    var isFlag: Bool { kind == "flag" }

    /// The name after "--" of an option or a flag of the command's own; `nil` for a positional argument, for --help and
    /// for --version.
    var optionName: String? {
      guard kind != "positional", let name = names?.first(where: { $0.kind == "long" })?.name,
        name != "help", name != "version" || !isFlag
      else { return nil }
      return name
    }
  }

  let commandName: String
  let abstract: String?
  let discussion: String?
  let shouldDisplay: Bool?
  let arguments: [Argument]
  let subcommands: [CommandDescription]

  private enum CodingKeys: String, CodingKey {
    case commandName, abstract, discussion, shouldDisplay, arguments, subcommands
  }

  init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: CodingKeys.self)
    commandName = try fields.decode(String.self, forKey: .commandName)
    abstract = try fields.decodeIfPresent(String.self, forKey: .abstract)
    discussion = try fields.decodeIfPresent(String.self, forKey: .discussion)
    shouldDisplay = try fields.decodeIfPresent(Bool.self, forKey: .shouldDisplay)
    arguments = try fields.decodeIfPresent([Argument].self, forKey: .arguments) ?? []
    subcommands = try fields.decodeIfPresent([CommandDescription].self, forKey: .subcommands) ?? []
  }

  /// - Throws: `DecodingError` if the argument parser describes commands in another way
  init(_ command: any ParsableCommand.Type) throws {
    struct Tool: Decodable { let command: CommandDescription }
    let key = ObjectIdentifier(command)
    if let known = Self.known.withLock({ $0[key] }) {
      self = known
      return
    }
    let described = try JSONDecoder().decode(Tool.self, from: Data(command._dumpHelp().utf8)).command
    Self.known.withLock { $0[key] = described }
    self = described
  }

  /// The commands that were described: a description takes milliseconds, and never changes.
  private static let known = Mutex<[ObjectIdentifier: CommandDescription]>([:])

  /// The long names of the options of this command and of all below it.
  var allOptionNames: Set<String> {
    Set(arguments.compactMap(\.optionName)).union(subcommands.flatMap(\.allOptionNames))
  }
}
