import ArgumentParser
import Formats
import Foundation

/// A command's manual page, in the man macros, made of what `--help` is made of.
struct ManualPage {
  /// "graft-adapters-list"
  let name: String
  let text: String

  /// The pages of a command and of all below it.
  static func all(of root: any ParsableCommand.Type) throws -> [ManualPage] {
    pages(try CommandDescription(root), [])
  }

  private static func pages(_ command: CommandDescription, _ parents: [String]) -> [ManualPage] {
    let path = parents + [command.commandName]
    let visible = command.subcommands.filter { $0.shouldDisplay ?? true && $0.commandName != "help" }
    return [ManualPage(command, path, visible)] + visible.flatMap { pages($0, path) }
  }

  private init(_ command: CommandDescription, _ path: [String], _ subcommands: [CommandDescription]) {
    name = path.joined(separator: "-")
    let arguments = command.arguments.filter { $0.shouldDisplay ?? true }
    let positional = arguments.filter { $0.kind == "positional" }
    var lines = [".TH \"\(name.uppercased())\" 1", ".SH NAME"]
    lines.append("\(Self.escaped(name)) \\- \(Self.escaped(command.abstract ?? ""))")
    lines += [".SH SYNOPSIS", ".B \(Self.escaped(path.joined(separator: " ")))"]
    if !subcommands.isEmpty { lines.append(".I command") }
    let words = positional.map { "\\fI\(Self.escaped($0.valueName ?? "value"))\\fR" }
    lines.append((["[\\fIoptions\\fR]"] + words).joined(separator: " "))
    if let discussion = command.discussion, !discussion.isEmpty {
      lines.append(".SH DESCRIPTION")
      for paragraph in discussion.components(separatedBy: "\n\n") { lines += [".PP", Self.escaped(paragraph)] }
    }
    if !subcommands.isEmpty {
      lines.append(".SH COMMANDS")
      for subcommand in subcommands {
        lines += [".TP", ".B \(Self.escaped(subcommand.commandName))", Self.escaped(subcommand.abstract ?? "")]
      }
    }
    if !positional.isEmpty {
      lines.append(".SH ARGUMENTS")
      for argument in positional {
        lines += [".TP", ".I \(Self.escaped(argument.valueName ?? "value"))", Self.escaped(argument.abstract ?? "")]
      }
    }
    for (section, options) in Self.sections(arguments.filter { $0.kind != "positional" }) {
      lines.append(".SH \(section.uppercased())")
      for option in options { lines += [".TP"] + Self.lines(option) }
    }
    lines += Self.common
    text = lines.joined(separator: "\n") + "\n"
  }

  /// The options by the titles of their groups, those without a title last.
  private static func sections(
    _ options: [CommandDescription.Argument]
  ) -> [(title: String, options: [CommandDescription.Argument])] {
    var titles: [String] = []
    for option in options where !titles.contains(option.sectionTitle ?? "") { titles.append(option.sectionTitle ?? "") }
    return (titles.filter { !$0.isEmpty } + titles.filter(\.isEmpty)).map { title in
      (title.isEmpty ? "options" : title, options.filter { ($0.sectionTitle ?? "") == title })
    }
  }

  private static func lines(_ option: CommandDescription.Argument) -> [String] {
    let names = (option.names ?? []).map { ($0.kind == "long" ? "--" : "-") + $0.name }
    let value = option.isFlag ? "" : " \\fI\(escaped(option.valueName ?? "value"))\\fR"
    let head = "\\fB\(escaped(names.joined(separator: ", ")))\\fR\(value)"
    let text = option.abstract ?? ""
    let given = option.defaultValue.flatMap { $0.isEmpty || text.contains("(default:") ? nil : " (default: \($0))" }
    return [head, escaped(text + (given ?? ""))]
  }

  /// What all pages end with.
  private static let common = [
    ".SH SETTINGS", "Each option can be given as a variable, \\fBGRAFT_\\fR and its name in capitals with _ for \\-,",
    "or in a YAML file under its long name: \\fB\\-\\-config\\fR, \\fBGRAFT_CONFIG\\fR, or",
    "~/.config/graft/config.yaml. The command line goes before variables, these go before the file.",
    ".SH EXIT STATUS", "0 done, 1 failed, 2 wrong usage, 130 interrupted.",
  ]

  /// A text without meaning for roff, in ASCII.
  static func escaped(_ text: String) -> String {
    let text = text.unicodeScalars.map { scalar in
      scalar.isASCII ? String(scalar) : String(format: "\u{1}[u%04X]", scalar.value)
    }.joined()
    return escapedASCII(text).replacingOccurrences(of: "\u{1}", with: "\\")
  }

  private static func escapedASCII(_ text: String) -> String {
    text.replacingOccurrences(of: "\\", with: "\\e").replacingOccurrences(of: "-", with: "\\-")
      .split(separator: "\n", omittingEmptySubsequences: false)
      .map { $0.hasPrefix(".") || $0.hasPrefix("'") ? "\\&" + $0 : String($0) }.joined(separator: "\n")
  }
}

struct ManualCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "manual", abstract: "Writes the manual pages of all commands into a folder.", shouldDisplay: false)

  @Option(help: "The folder, which is made if it is missing.")
  var output: String

  func run() throws {
    let folder = URL(filePath: output).standardizedFileURL
    try FolderAccess.create(folder)
    for page in try ManualPage.all(of: Graft.self) {
      try AtomicFile.write(Array(page.text.utf8), to: folder.appending(path: page.name + ".1"))
    }
  }
}
