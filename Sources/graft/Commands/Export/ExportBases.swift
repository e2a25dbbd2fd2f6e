import ArgumentParser
import Formats
import Foundation
import Kernels
import Model

struct ExportBitsAndBytes: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bitsandbytes", abstract: "Writes a base as the 4-bit folder that transformers loads.",
    usage: "graft export bitsandbytes [<options>] --model <model> <folder>",
    discussion: """
      --model is a Hugging Face folder with the original weights, in F32, F16 or BF16. The codes and scales are those \
      that Graft serves, and the very bytes that bitsandbytes computes. --double-quant quantises the scales, too.
      """)

  @OptionGroup var base: ExportBase

  @Flag(help: "Quantises the scales of blocks, as bnb_4bit_use_double_quant does.")
  var doubleQuant = false

  @OptionGroup var files: ExportedFiles

  @Argument(help: "The folder to make.") var folder: String

  func run() throws {
    let target = URL(filePath: folder).standardizedFileURL
    var bar = ProgressBar(title: "Quantising \(base.url.lastPathComponent)")
    try BitsAndBytesFolder.write(
      base: base.url, to: target, usesDoubleQuantization: doubleQuant, shardSize: files.shardSize.bytes,
      pool: ThreadPool(threads: files.threads)
    ) { try bar.update($0) }
    bar.finish()
    print(target.path)
  }
}

struct ExtractAdapter: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "extracted", abstract: "Makes an adapter of the difference between a fine-tuned model and its base.",
    usage: "graft export extracted [<options>] --model <model> --tuned <tuned> <folder>",
    discussion: """
      Of each projection that differs, the adapter has the nearest matrix of its rank (by singular values). One line for \
      each tensor that differs says how much of the difference is kept, as the share of its sum of squares, and how \
      large the difference is beside the base. Norms, embedding and head are not kept.
      """)

  @OptionGroup var base: ExportBase

  @Option(help: "The fine-tuned model: a GGUF file or a folder, of the same sizes.")
  var tuned: String

  @Option(help: "The adapter's rank.")
  var rank: Int = 16

  @OptionGroup var output: JSONOption

  @Argument(help: "The PEFT folder to make.") var folder: String

  func run() throws {
    let target = URL(filePath: folder).standardizedFileURL
    let base = try openPublishedModel(at: base.url)
    let tuned = try openPublishedModel(at: URL(filePath: tuned).standardizedFileURL)
    var bar = ProgressBar(title: "Extracting")
    let parts = try AdapterExtraction.write(
      base: base, tuned: tuned, rank: rank, name: self.base.url.path, to: target
    ) { try bar.update($0) }
    bar.finish()
    if output.json {
      return JSONValue.array(
        parts.map { ["name": .string($0.name), "kept": .number($0.kept), "change": .number($0.change)] }
      ).printed()
    }
    var table = TextTable([
      .init(title: "TENSOR"), .init(title: "KEPT", isNumber: true), .init(title: "CHANGE", isNumber: true),
    ])
    for part in parts {
      table.add([.init(part.name), .init(percent(part.kept)), .init(percent(part.change.squareRoot()))])
    }
    print(table.text(for: Terminal.output))
    writeError("graft: \(target.path)")
  }

  private func percent(_ share: Double) -> String { String(format: "%.2f %%", share * 100) }
}
