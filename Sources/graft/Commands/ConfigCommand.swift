import ArgumentParser
import Formats
import Foundation

struct ConfigCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "config", abstract: "Prints the settings of a command, and where each comes from.",
    discussion: """
      'graft config train' prints what 'graft train' would use; options after the command's name are counted, too. \
      Without a name it is serve. The command line goes before GRAFT_ variables, these go before the config file, and \
      that before the defaults. Keys are not shown.
      """)

  @OptionGroup var output: JSONOption

  @Argument(
    parsing: .allUnrecognized, help: ArgumentHelp("A command, and options of it.", valueName: "command"))
  var command: [String] = []

  /// Options whose values are not shown.
  private static let secrets: Set<String> = ["api-key"]

  func run() throws {
    let words = command.isEmpty ? ["serve"] : command
    let (type, position) = EnvironmentArguments.command(words, Graft.self)
    guard position > 0 else {
      throw ValidationError("'\(words[0])' is no command; 'graft --help' lists them")
    }
    let typed = Array(words[position...])
    let (environment, file) = (ProcessInfo.processInfo.environment, try Graft.commandLine.get().file)
    var rows: [(option: String, value: String?, source: String)] = []
    for argument in try CommandDescription(type).arguments {
      guard let name = argument.optionName else { continue }
      if let value = Self.typed(name, typed, isFlag: argument.isFlag) {
        rows.append((name, value, "command line"))
      } else if let (values, source) = EnvironmentArguments.value(of: name, environment, file) {
        rows.append((name, values.joined(separator: " "), source))
      } else {
        rows.append((name, argument.defaultValue ?? (argument.isFlag ? "off" : nil), "default"))
      }
    }
    show(
      rows.map { Self.secrets.contains($0.option) && $0.source != "default" ? ($0.option, "(hidden)", $0.source) : $0 },
      file)
  }

  private func show(_ rows: [(option: String, value: String?, source: String)], _ file: ConfigFile?) {
    if output.json {
      let settings = rows.map { row -> (key: String, value: JSONValue) in
        (row.option, ["value": row.value.map(JSONValue.string) ?? .null, "source": .string(row.source)])
      }
      let path = file.map { JSONValue.string($0.path) } ?? .null
      let all: JSONValue = ["file": path, "settings": .object(JSONObject(keepingFirst: settings))]
      return all.printed()
    }
    let terminal = Terminal.output
    var table = TextTable([
      .init(title: "SETTING"), .init(title: "VALUE", canBeCut: true), .init(title: "FROM", canBeCut: true),
    ])
    for row in rows {
      table.add([
        .init(row.option, .bold), .init(row.value ?? "–", row.value == nil ? .faint : nil),
        .init(row.source, row.source == "default" ? .faint : .accent),
      ])
    }
    print(table.text(for: terminal))
    let usual = ConfigFile.usualPath(ProcessInfo.processInfo.environment)
    if terminal.isTerminal { print("\nconfig file: \(file?.path ?? "none; \(usual) would be read")") }
  }

  /// What the command line gives an option.
  private static func typed(_ name: String, _ arguments: [String], isFlag: Bool) -> String? {
    let option = "--\(name)"
    var values: [String] = []
    for (index, argument) in arguments.enumerated() {
      if argument == option { values.append(isFlag ? "on" : arguments.dropFirst(index + 1).first ?? "") }
      if argument.hasPrefix(option + "=") { values.append(String(argument.dropFirst(option.count + 1))) }
    }
    return values.isEmpty ? nil : values.joined(separator: " ")
  }
}
