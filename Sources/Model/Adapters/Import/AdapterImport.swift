public import Formats
public import Foundation

/// Adapters in other forms than PEFT's, which are rewritten as PEFT folders before they are stored: llama.cpp's GGUF,
/// MLX-LM's and torchtune's safetensors, and adapters beside the initial ones that they are counted from.
public enum AdapterImport {
  /// MLX-LM's weights.
  public static let mlxFile = "adapters.safetensors"

  /// How the files of a folder are read.
  private enum Form {
    case peft
    case gguf(URL)
    case mlx
    case torchtune
    case changedBase(initial: String)
  }

  /// Whether a file of this name, alone or with a configuration, makes an adapter in another form.
  public static func isForeign(_ name: String) -> Bool { name == mlxFile || name.hasSuffix(".gguf") }

  /// The files, relative to a folder, that the adapter in it is read from. Missing ones of PEFT's two are among them.
  public static func files(in folder: URL) -> [String] {
    let peft = AdapterContents.fileNames
    switch try? form(of: folder) {
    case .gguf(let file): return file == folder ? [] : [file.lastPathComponent]
    case .mlx: return [PEFTFolder.configurationFile, mlxFile]
    case .changedBase(let initial): return peft + peft.map { "\(initial)/\($0)" }
    case .peft, .torchtune, nil: return peft
    }
  }

  /// Whether a folder may have to be rewritten.
  public static func isNeeded(_ folder: URL) -> Bool {
    guard let form = try? form(of: folder) else { return true }
    return if case .peft = form { false } else { true }
  }

  /// Rewrites an adapter in another form as a PEFT folder.
  /// - Parameters:
  ///   - target: an empty folder
  ///   - config: the base's
  /// - Returns: `false` for a folder that is PEFT's as it is, of which nothing is written
  /// - Throws: `ModelError` naming the field or tensor that is wrong or not supported
  public static func rewrite(_ folder: URL, to target: URL, config: ModelConfig) throws -> Bool {
    switch try form(of: folder) {
    case .peft: return false
    case .gguf(let file): try gguf(file, config: config).write(to: target)
    case .mlx: try MLXAdapter(folder, config: config).factors.write(to: target)
    case .torchtune: try TorchtuneAdapter(folder, config: config).write(to: target)
    case .changedBase(let initial):
      try InitialAdapter.subtract(folder.appending(path: initial), from: folder, to: target)
    }
    return true
  }

  /// - Parameter folder: or a GGUF file
  private static func form(of folder: URL) throws -> Form {
    var isFolder: ObjCBool = false
    if folder.pathExtension == "gguf", FileManager.default.fileExists(atPath: folder.path, isDirectory: &isFolder),
      !isFolder.boolValue
    {
      return .gguf(folder)
    }
    let names = Set((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? [])
    let configuration = folder.appending(path: PEFTFolder.configurationFile)
    guard names.contains(PEFTFolder.weightsFile) else {
      if names.contains(mlxFile), names.contains(PEFTFolder.configurationFile) { return .mlx }
      let models = names.filter { $0.hasSuffix(".gguf") }.sorted()
      guard models.count < 2 || names.contains(PEFTFolder.configurationFile) else {
        throw ModelError(folder.lastPathComponent, reason: "has several GGUF files: \(models.joined(separator: ", "))")
      }
      if let name = models.first, !names.contains(PEFTFolder.configurationFile) {
        return .gguf(folder.appending(path: name))
      }
      return .peft
    }
    if let initial = InitialAdapter.folderNames.first(where: names.contains),
      try InitialAdapter.isNeeded(configuration)
    {
      return .changedBase(initial: initial)
    }
    return TorchtuneAdapter.isOne(folder) ? .torchtune : .peft
  }

  private static func gguf(_ url: URL, config: ModelConfig) throws -> PlainFactors {
    let adapter = try GGUFAdapter(url, config: config)
    return PlainFactors(
      modules: adapter.modules.map { module in
        PlainFactors.Module(
          name: module.name, rank: module.rank, alpha: adapter.alpha == 0 ? Double(module.rank) : adapter.alpha,
          columns: module.columns, outputs: module.outputs, a: { try adapter.a(module) }, b: { try adapter.b(module) })
      })
  }
}
