import ArgumentParser
import Testing

@testable import graft

/// Every option and flag of every command has a variable.
@Suite struct EnvironmentTests {
  private struct Leaf: Sendable, CustomTestStringConvertible {
    let path: [String]
    let command: any ParsableCommand.Type
    var testDescription: String { path.joined(separator: " ") }
  }

  private static func leaves(_ command: any ParsableCommand.Type, _ path: [String] = []) -> [Leaf] {
    let subcommands = command.configuration.subcommands
    if subcommands.isEmpty { return [Leaf(path: path, command: command)] }
    return subcommands.flatMap { leaves($0, path + [$0.configuration.commandName ?? ""]) }
  }

  private static let all = leaves(Graft.self)

  /// What comes of a command line: the command with its values, or the error.
  private func outcome(_ arguments: [String]) -> String {
    do { return "\(try Graft.parseAsRoot(arguments))" } catch { return Graft.message(for: error) }
  }

  private func line(_ arguments: [String], _ environment: [String: String]) throws -> EnvironmentArguments {
    try EnvironmentArguments(arguments, environment: environment, root: Graft.self)
  }

  @Test func thereAreCommands() {
    #expect(
      Self.all.map { $0.path.joined(separator: " ") }.sorted() == [
        "adapters combine", "adapters inspect", "adapters list", "adapters load", "adapters prune", "adapters remove",
        "adapters unload", "backup", "bench", "chat", "config", "doctor", "export bitsandbytes", "export extracted",
        "export gguf", "export merged", "export mlx", "export peft", "generate", "jobs cancel", "jobs download",
        "jobs follow", "jobs list", "jobs pause", "jobs resume", "manual", "prepare", "restore", "serve", "sweep",
        "tokenize", "train",
      ])
  }

  @Test(arguments: all) private func everyOptionHasAVariable(leaf: Leaf) throws {
    let count = try CommandDescription(leaf.command).arguments.count { $0.kind == "positional" }
    let rest = Array(["name", "path"].prefix(count))
    var options = 0
    for argument in try CommandDescription(leaf.command).arguments {
      guard let name = argument.optionName else { continue }
      options += 1
      let variable = EnvironmentArguments.variable(of: name)
      #expect(variable.hasPrefix("GRAFT_") && variable.allSatisfy { $0 == "_" || $0.isUppercase || $0.isNumber })
      // Values that the option takes and values that it does not: both come to the same as on the command line.
      for value in argument.isFlag ? ["on"] : ["3", "f32", "-"] {
        let option = argument.isFlag ? "--\(name)" : "--\(name)=\(value)"
        let line = try line(leaf.path + rest, [variable: value, "OTHER": "1"])
        #expect(line.arguments == leaf.path + [option] + rest)
        #expect(line.given == [.init(variable: variable, option: "--\(name)")])
        #expect(outcome(line.arguments) == outcome(leaf.path + rest + [option]))
        // What the command line gives goes first; an empty variable gives nothing.
        #expect(try self.line(leaf.path + rest, [variable: ""]).given.isEmpty)
        #expect(try self.line(leaf.path + [option] + rest, [variable: "x"]).given.isEmpty)
      }
      if !argument.isFlag {
        #expect(try self.line(leaf.path + ["--\(name)", "4"] + rest, [variable: "5"]).given.isEmpty)
      } else {
        #expect(try line(leaf.path, [variable: "off"]).arguments == leaf.path)
        #expect(throws: ValidationError.self) { try line(leaf.path, [variable: "maybe"]) }
      }
    }
    #expect(options > 0)
  }

  @Test func anErrorNamesTheVariable() throws {
    let line = try line(["serve", "--host=::"], ["GRAFT_PORT": "many", "GRAFT_MODEL": "m.gguf"])
    #expect(line.given.map(\.variable) == ["GRAFT_MODEL", "GRAFT_PORT"])
    let text = line.explaining(outcome(line.arguments))
    #expect(text.contains("--port is given by GRAFT_PORT") && !text.contains("GRAFT_MODEL"))
    #expect(line.explaining("--ports, --host and port are\nother words") == "--ports, --host and port are\nother words")
  }

  @Test func helpAndOtherProgramsVariablesAreLeftAlone() throws {
    for arguments in [["serve", "--help"], ["-h"], [], ["nonsense"], ["serve", "--", "--port"]] {
      #expect(try line(arguments, ["GRAFTED": "1", "PORT": "2"]).arguments == arguments)
    }
    #expect(try line(["serve", "--help"], ["GRAFT_PORT": "x"]).arguments == ["serve", "--help"])
    #expect(
      try line(["serve", "--", "--port"], ["GRAFT_PORT": "1"]).arguments == ["serve", "--port=1", "--", "--port"])
  }
}
