import ArgumentParser
import Formats
import Foundation
import Kernels
import Model

struct ExportMerged: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "merged", abstract: "Writes a base's original weights with an adapter merged into them.",
    usage: "graft export merged [<options>] --model <model> <adapter> <target>",
    discussion: """
      --model is a Hugging Face folder with the original weights, in F32, F16 or BF16; the result is such a folder in \
      BF16. Or the target is NAME.gguf. Then --model can also be a GGUF file; of a folder, --like names a GGUF file of the \
      same model, whose tokenizer and metadata are copied. Sums are computed in f32 and rounded once. A few megabytes of \
      weights are in memory at a time.

      An adapter of a data folder is merged only into the base that it was registered for, if that base is prepared there, \
      unless --any-base is given.
      """)

  /// The number formats of a GGUF file's matrices.
  enum Element: String, CaseIterable, ExpressibleByArgument {
    case bf16, f16
    case q8 = "q8_0"

    var tensorType: GGUFTensorType {
      switch self {
      case .bf16: .bf16
      case .f16: .f16
      case .q8: .q8_0
      }
    }
  }

  @OptionGroup var base: ExportBase

  @Option(help: "Of a GGUF file, the matrices' format: \(Element.allCases.map(\.rawValue).joined(separator: ", ")).")
  var type: Element = .bf16

  @Option(help: ArgumentHelp("A GGUF file of the base, whose metadata the new one gets.", valueName: "file"))
  var like: String?

  @Flag(help: "Merges an adapter into other weights than those that it was registered for, too.")
  var anyBase = false

  @OptionGroup var files: ExportedFiles

  @OptionGroup var source: ExportedAdapter

  @Argument(help: "The folder to make, or the file NAME.gguf.") var target: String

  private var isGGUF: Bool { target.hasSuffix(".gguf") }

  func validate() throws {
    if isGGUF { return }
    if like != nil { throw ValidationError("--like is for a target NAME.gguf") }
    if type != .bf16 { throw ValidationError("--type \(type.rawValue) is for a target NAME.gguf; folders are in bf16") }
  }

  func run() throws {
    let target = URL(filePath: target).standardizedFileURL
    let pool = ThreadPool(threads: files.threads)
    try source.withFolder(config: base.config()) { folder, name, registered in
      let comparison = try compare(registered, name: name)
      var bar = ProgressBar(title: "Merging \(name)")
      let named: String?
      if isGGUF {
        let model = try openPublishedModel(at: base.url)
        named = try MergedGGUF.write(
          adapter: folder, base: model, like: try metadata(of: model), to: target, type: type.tensorType, pool: pool
        ) { try bar.update($0) }
      } else {
        named = try MergedFolder.write(
          adapter: folder, base: base.url, to: target, shardSize: files.shardSize.bytes, pool: pool
        ) { try bar.update($0) }
      }
      bar.finish()
      writeError(
        "graft: merged '\(name)' into \(base.url.path)\(named.map { "; its configuration names \($0)" } ?? "")"
          + comparison)
    }
    print(target.path)
  }

  /// Compares the base with the one that an adapter was registered for.
  /// - Returns: what could not be compared
  /// - Throws: `ModelError` naming the adapter if it was registered for other weights
  private func compare(_ registered: String?, name: String) throws -> String {
    guard let registered else { return "; a folder does not say which weights it is for" }
    let store = BaseStore(dataFolder: URL(filePath: source.dataDir))
    guard let own = try store.preparedFingerprint(of: openPublishedModel(at: base.url)) else {
      return "; whether it was registered for these weights is not known: they are not prepared in \(source.dataDir)"
    }
    guard own != registered else { return "" }
    guard anyBase else {
      throw ModelError(
        name,
        reason: "was registered for another base (fingerprint \(registered.prefix(12))) than \(base.model) "
          + "(\(own.prefix(12))); --any-base merges it all the same")
    }
    return "; it was registered for another base (fingerprint \(registered.prefix(12)))"
  }

  private func metadata(of model: any PublishedModel) throws -> GGUFModel {
    if let like { return try GGUFModel(URL(filePath: like).standardizedFileURL) }
    guard let file = model as? GGUFModel else {
      throw ModelError(
        base.model, reason: "is no GGUF file, so --like must name one of the same model, for its tokenizer and metadata"
      )
    }
    return file
  }
}
