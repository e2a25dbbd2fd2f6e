import ArgumentParser
import Foundation

/// A command line with the options that the environment gives.
///
/// Every option and flag of every command has a variable: GRAFT_ and its name in capitals, with _ for -. If the option
/// is not given, the variable's value is put into the command line as that option. So the argument parser reads both in
/// the same way, and the order of precedence is: command line, variable, default. Positional arguments have no
/// variable: what `remove` deletes must be on its command line.
struct EnvironmentArguments {
  /// An option that a variable gave.
  struct Given: Equatable {
    /// "GRAFT_PORT"
    let variable: String
    /// "--port"
    let option: String
  }

  /// The command line for the argument parser.
  private(set) var arguments: [String]
  /// The options that variables gave, in the order in which the command declares them.
  private(set) var given: [Given] = []

  /// - Parameters:
  ///   - arguments: without the program's name
  ///   - environment: the variables, of which those that begin with GRAFT_ are read
  ///   - root: the command whose subcommands the arguments name
  /// - Throws: `ValidationError` naming a flag's variable that is neither "on" nor "off"
  init(_ arguments: [String], environment: [String: String], root: any ParsableCommand.Type) throws {
    self.arguments = arguments
    // An empty variable counts as not set.
    let variables = environment.filter { $0.key.hasPrefix(Self.prefix) && !$0.value.isEmpty }
    // Describing a command takes a few milliseconds, which is only necessary if there are variables.
    guard !variables.isEmpty, !arguments.contains(where: { $0 == "-h" || $0 == "--help" }) else { return }
    var command = root
    var position = 0
    while position < arguments.count,
      let next = command.configuration.subcommands.first(where: { $0.configuration.commandName == arguments[position] })
    {
      command = next
      position += 1
    }
    let options = arguments[position...].prefix { $0 != "--" }
    var inserted: [String] = []
    for argument in try CommandDescription(command).arguments {
      guard let name = argument.optionName else { continue }
      let (variable, option) = (Self.variable(of: name), "--\(name)")
      guard let value = variables[variable], !options.contains(where: { $0 == option || $0.hasPrefix(option + "=") })
      else { continue }
      if argument.isFlag {
        guard let flag = Switch(rawValue: value) else {
          throw ValidationError("\(variable) must be on or off, as \(option) is a flag")
        }
        if flag == .off { continue }
        inserted.append(option)
      } else {
        inserted.append("\(option)=\(value)")
      }
      given.append(Given(variable: variable, option: option))
    }
    self.arguments.insert(contentsOf: inserted, at: position)
  }

  private static let prefix = "GRAFT_"

  /// "GRAFT_DATA_DIR" of "data-dir".
  static func variable(of option: String) -> String {
    prefix + option.uppercased().replacingOccurrences(of: "-", with: "_")
  }

  /// An error's text, with the variables that gave the options which it names.
  func explaining(_ text: String) -> String {
    let words = Set(text.split { !($0.isLetter || $0.isNumber || $0 == "-") }.map(String.init))
    let culprits = given.filter { words.contains($0.option) }
    guard !culprits.isEmpty else { return text }
    let sources = culprits.map { "\($0.option) is given by \($0.variable)" }.joined(separator: ", ")
    // The variables belong to the error, not to the usage text after it.
    var lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    lines[0] += " (\(sources))"
    return lines.joined(separator: "\n")
  }
}

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

    var isFlag: Bool { kind == "flag" }

    /// The name after "--" of an option or a flag of the command's own; `nil` for a positional argument and for --help.
    var optionName: String? {
      guard kind != "positional", let name = names?.first(where: { $0.kind == "long" })?.name, name != "help" else {
        return nil
      }
      return name
    }
  }

  let arguments: [Argument]

  /// - Throws: `DecodingError` if the argument parser describes commands in another way
  init(_ command: any ParsableCommand.Type) throws {
    struct Tool: Decodable { let command: Command }
    struct Command: Decodable { let arguments: [Argument]? }
    arguments = try JSONDecoder().decode(Tool.self, from: Data(command._dumpHelp().utf8)).command.arguments ?? []
  }
}
