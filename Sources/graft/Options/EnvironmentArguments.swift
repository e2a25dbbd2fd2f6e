import ArgumentParser
import Foundation

/// A command line with the options that the environment and the config file give.
///
/// Every option and flag of every command has a variable: GRAFT_ and its name in capitals, with _ for -. The config file
/// has them under their long names. If the command line does not give an option, the variable's value is put into it as
/// that option, or else the file's. So the argument parser reads all in the same way, and the order of precedence is:
/// command line, variable, file, default. Positional arguments have neither: what `remove` deletes must be on its command
/// line.
struct EnvironmentArguments {
  /// An option that a variable or the file gave.
  struct Given: Equatable {
    /// "GRAFT_PORT", or "line 3 of config.yaml".
    let variable: String
    /// "--port"
    let option: String
  }

  /// The command line for the argument parser.
  private(set) var arguments: [String]
  /// The options that variables and the file gave, in the order in which the command declares them.
  private(set) var given: [Given] = []
  /// The config file, if there is one.
  let file: ConfigFile?
  private let variables: [String: String]

  /// - Parameters:
  ///   - arguments: without the program's name
  ///   - environment: the variables, of which those that begin with GRAFT_ are read
  ///   - file: the config file; `nil` for none
  ///   - root: the command whose subcommands the arguments name
  /// - Throws: `ValidationError` naming a flag's variable that is neither "on" nor "off", or a line of the file
  init(
    _ arguments: [String], environment: [String: String], file: ConfigFile? = nil, root: any ParsableCommand.Type
  ) throws {
    self.arguments = arguments
    self.file = file
    // An empty variable counts as not set.
    variables = environment.filter { $0.key.hasPrefix(Self.prefix) && !$0.value.isEmpty }
    // Describing a command takes a few milliseconds, which is only necessary if there is something to put in.
    guard !variables.isEmpty || file != nil, !arguments.contains(where: { $0 == "-h" || $0 == "--help" }) else {
      return
    }
    if let file { try Self.checkKeys(file, root) }
    let (command, position) = Self.command(arguments, root)
    let options = arguments[position...].prefix { $0 != "--" }
    var inserted: [String] = []
    for argument in try CommandDescription(command).arguments {
      guard let name = argument.optionName else { continue }
      let option = "--\(name)"
      guard !options.contains(where: { $0 == option || $0.hasPrefix(option + "=") }),
        let (values, source) = Self.value(of: name, variables, file)
      else { continue }
      if argument.isFlag {
        guard values.count == 1, let isOn = Self.switches[values[0]] else {
          throw ValidationError("\(source) must be on or off, as \(option) is a flag")
        }
        if !isOn { continue }
        inserted.append(option)
      } else {
        inserted += values.map { "\(option)=\($0)" }
      }
      given.append(Given(variable: source, option: option))
    }
    self.arguments.insert(contentsOf: inserted, at: position)
  }

  /// What a variable, or else the file, gives an option of whatever command, and the words for where it comes from.
  func value(of option: String) -> (value: String, source: String)? {
    Self.value(of: option, variables, file).flatMap { found in found.values.last.map { ($0, found.source) } }
  }

  private static let prefix = "GRAFT_"
  /// A flag's values; YAML has several words for them.
  private static let switches = ["on": true, "off": false, "true": true, "false": false, "yes": true, "no": false]

  /// The command that arguments name, and how many of them name it.
  static func command(_ arguments: [String], _ root: any ParsableCommand.Type) -> (any ParsableCommand.Type, Int) {
    var (command, position) = (root, 0)
    while position < arguments.count,
      let next = command.configuration.subcommands.first(where: { $0.configuration.commandName == arguments[position] })
    {
      command = next
      position += 1
    }
    return (command, position)
  }

  /// What a variable, or else the file, gives an option, and the words for where it comes from.
  static func value(
    of option: String, _ variables: [String: String], _ file: ConfigFile?
  ) -> (values: [String], source: String)? {
    let variable = variable(of: option)
    if let value = variables[variable], !value.isEmpty { return ([value], variable) }
    guard let file, let setting = file[option] else { return nil }
    return (setting.values, "line \(setting.line) of \(file.path)")
  }

  /// - Throws: `ValidationError` naming the line of a key that no command has
  private static func checkKeys(_ file: ConfigFile, _ root: any ParsableCommand.Type) throws {
    let known = try CommandDescription(root).allOptionNames
    for setting in file.settings where !known.contains(setting.key) {
      let close = known.filter { $0.hasPrefix(setting.key) || setting.key.hasPrefix($0) || $0.contains(setting.key) }
      let advice =
        close.sorted().first.map { "did you mean '\($0)'?" } ?? "'graft config' lists the options of a command"
      throw ValidationError(
        "line \(setting.line) of \(file.path): no command has an option --\(setting.key); \(advice)")
    }
  }

  /// Takes `--config PATH` out of a command line.
  /// - Throws: `ValidationError` if the path is missing
  static func takeConfig(from arguments: inout [String]) throws -> String? {
    let end = arguments.firstIndex(of: "--") ?? arguments.count
    if let index = arguments[..<end].firstIndex(where: { $0.hasPrefix("--config=") }) {
      return String(arguments.remove(at: index).dropFirst("--config=".count))
    }
    guard let index = arguments[..<end].firstIndex(of: "--config") else { return nil }
    guard index + 1 < end else { throw ValidationError("--config needs the path of a YAML file") }
    let path = arguments[index + 1]
    arguments.removeSubrange(index...index + 1)
    return path
  }

  /// "GRAFT_DATA_DIR" of "data-dir".
  static func variable(of option: String) -> String {
    prefix + option.uppercased().replacingOccurrences(of: "-", with: "_")
  }

  /// An error's text, with what gave the options that it names.
  func explaining(_ text: String) -> String {
    let words = Set(text.split { !($0.isLetter || $0.isNumber || $0 == "-") }.map(String.init))
    let culprits = given.filter { words.contains($0.option) }
    guard !culprits.isEmpty else { return text }
    let sources = culprits.map { "\($0.option) is given by \($0.variable)" }.joined(separator: ", ")
    // The sources belong to the error, not to the usage text after it.
    var lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    lines[0] += " (\(sources))"
    return lines.joined(separator: "\n")
  }
}
