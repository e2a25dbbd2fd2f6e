import ArgumentParser
import Formats
import Foundation
import Model

struct ExportGGUF: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "gguf", abstract: "Writes an adapter as the GGUF file that llama.cpp's --lora takes.",
    usage: "graft export gguf [<options>] --model <model> <adapter> <file>",
    discussion: """
      Of the base, only the sizes are read; its embedding and head, too, if the adapter has a copy of them. GGUF has the \
      factors of LoRA and nothing else; merge adapters with DoRA, IA3, biases, norms or whole tables.
      """)

  /// The number formats of an adapter's tensors.
  enum Element: String, CaseIterable, ExpressibleByArgument {
    case f32, f16, bf16
  }

  @OptionGroup var base: ExportBase

  @Option(help: "The numbers' format: \(Element.allCases.map(\.rawValue).joined(separator: ", ")).")
  var type: Element = .f32

  @OptionGroup var source: ExportedAdapter

  @Argument(help: "The file to make, NAME.gguf.") var file: String

  func run() throws {
    let config = try base.config()
    let target = URL(filePath: file).standardizedFileURL
    try source.withFolder(config: config) { folder, name, _ in
      try AdapterExport.writeGGUF(
        folder, config: config, tables: base.tables, to: target, type: type.tensorType, name: name)
    }
    print(target.path)
  }
}

extension ExportGGUF.Element {
  var tensorType: GGUFTensorType {
    switch self {
    case .f32: .f32
    case .f16: .f16
    case .bf16: .bf16
    }
  }
}

struct ExportMLX: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "mlx", abstract: "Writes an adapter as the folder that MLX-LM's --adapter-path takes.",
    usage: "graft export mlx [<options>] --model <model> <adapter> <folder>",
    discussion: """
      Of the base, only the sizes are read; its embedding and head, too, if the adapter has a copy of them. MLX-LM has the \
      factors of LoRA and DoRA and nothing else; merge adapters with IA3, biases, norms or whole tables.
      """)

  @OptionGroup var base: ExportBase

  @OptionGroup var source: ExportedAdapter

  @Argument(help: "The folder to make.") var folder: String

  func run() throws {
    let config = try base.config()
    let target = URL(filePath: folder).standardizedFileURL
    try source.withFolder(config: config) { folder, _, _ in
      try AdapterExport.writeMLX(folder, config: config, tables: base.tables, to: target)
    }
    print(target.path)
  }
}

struct ExportPEFT: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "peft", abstract: "Copies an adapter as a PEFT folder, byte for byte.",
    usage: "graft export peft [<options>] <adapter> <folder>",
    discussion: "An adapter in another form is rewritten as PEFT's, with the sizes of the base that --model names.")

  @Option(help: "The base of an adapter in another form: a GGUF file or a model folder.")
  var model: String = ""

  @OptionGroup var source: ExportedAdapter

  @Argument(help: "The folder to make.") var folder: String

  func run() throws {
    let target = URL(filePath: folder).standardizedFileURL
    try source.withFolder(config: config()) { folder, _, _ in try AdapterExport.writePEFT(folder, to: target) }
    print(target.path)
  }

  private func config() throws -> ModelConfig {
    guard !model.isEmpty else {
      throw ModelError(source.adapter, reason: "is in another form than PEFT's; name its base with --model")
    }
    return try openConfiguration(at: URL(filePath: model).standardizedFileURL).config
  }
}
