import ArgumentParser
import Foundation
import Formats
import Model

struct InspectAdapter: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect", abstract: "Says what a PEFT folder has, and whether it can be loaded.",
    discussion: """
      With --model, the tensors' shapes and values are checked against that base, too. The exit code is 1 if there is a \
      problem.
      """)

  @Option(help: "A base: a GGUF file or a model folder.")
  var model: String = ""

  @OptionGroup var output: JSONOption

  @Argument(help: "The folder with adapter_config.json and adapter_model.safetensors.")
  var path: String

  func run() throws {
    let url = URL(filePath: path).standardizedFileURL
    guard FileManager.default.fileExists(atPath: url.path) else { throw ModelError(path, reason: "does not exist") }
    let config = model.isEmpty ? nil : try openPublishedModel(at: URL(filePath: model).standardizedFileURL).config
    let found = PEFTInspection(folder: url, config: config)
    if output.json { Self.json(found).printed() } else { print(text(found, Terminal.output)) }
    if !found.problems.isEmpty { throw ExitCode.failure }
  }

  private func text(_ found: PEFTInspection, _ terminal: Terminal) -> String {
    let scale = found.usesRSLoRA ? "alpha / √rank" : "alpha / rank"
    var lines: [(String, String)] = [("folder", path)]
    if let rank = found.rank { lines.append(("rank", "\(rank)")) }
    if let alpha = found.alpha { lines.append(("alpha", "\(alpha) (scale: \(scale))")) }
    lines += [
      ("DoRA", found.usesDoRA ? "yes" : "no"), ("targets", found.targets.joined(separator: ", ")),
      ("base", found.baseModel ?? "not named"),
      ("size", "\(Quantity.bytes(found.bytes)), \(found.parameters) parameters"),
    ]
    if found.problems.isEmpty {
      lines.append(("problems", model.isEmpty ? "none (shapes are checked with --model)" : "none"))
    }
    for problem in found.problems { lines.append(("problem", problem)) }
    return lines.map { title, value in
      let padding = String(repeating: " ", count: 10 - title.count)
      let style: Terminal.Style? = title == "problem" ? .bad : nil
      return terminal.styled(title, .bold) + padding + terminal.styled(Terminal.harmless(value), style)
    }.joined(separator: "\n")
  }

  private static func json(_ found: PEFTInspection) -> JSONValue {
    [
      "rank": found.rank.map(JSONValue.integer) ?? .null, "alpha": found.alpha.map(JSONValue.number) ?? .null,
      "use_dora": .bool(found.usesDoRA), "use_rslora": .bool(found.usesRSLoRA),
      "targets": .array(found.targets.map(JSONValue.string)),
      "base_model": found.baseModel.map(JSONValue.string) ?? .null, "bytes": .integer(found.bytes),
      "parameters": .integer(found.parameters), "problems": .array(found.problems.map(JSONValue.string)),
    ]
  }
}
