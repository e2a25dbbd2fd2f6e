public import Formats
public import Foundation

/// Adapters in other forms than PEFT's, which are rewritten as PEFT folders before anything else is done with them:
/// llama.cpp's GGUF, MLX-LM's and torchtune's safetensors, and adapters beside the initial ones that they are counted from.
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

  /// The files, relative to a folder, that the adapter in it is read from. Missing ones of PEFT's two are among them. Of a
  /// GGUF file in place of a folder there are none.
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
  ///   - config: the base's, asked for where the form does not say its sizes
  /// - Returns: `false` for a folder that is PEFT's as it is, of which nothing is written
  /// - Throws: `ModelError` naming the field or tensor that is wrong or not supported
  public static func rewrite(
    _ folder: URL, to target: URL, config: @autoclosure () throws -> ModelConfig
  ) throws -> Bool {
    switch try form(of: folder) {
    case .peft: return false
    case .gguf(let file): try gguf(file, config: config()).write(to: target)
    case .mlx: try MLXAdapter(folder, config: config()).factors.write(to: target)
    case .torchtune: try TorchtuneAdapter(folder, config: config()).write(to: target)
    case .changedBase(let initial):
      try InitialAdapter.subtract(folder.appending(path: initial), from: folder, to: target)
    }
    return true
  }

  /// What a user should know of how an adapter is read, each in one line.
  public static func notes(_ folder: URL) -> [String] {
    if case .mlx? = try? form(of: folder) { MLXAdapter.notes(folder) } else { [] }
  }

  /// Whether nothing of an adapter can be read without its base, whose sizes its form needs.
  public static func needsBase(_ folder: URL) -> Bool {
    switch try? form(of: folder) {
    case .gguf, .mlx: true
    case .peft, .torchtune, .changedBase, nil: false
    }
  }

  /// Whether an adapter has to be rewritten, which can be done without its base.
  static func isRewrittenWithoutBase(_ folder: URL) -> Bool {
    if case .changedBase? = try? form(of: folder) { true } else { false }
  }

  /// Calls `body` with an adapter as a PEFT folder: the folder itself, or a temporary one that the adapter is rewritten to.
  /// - Parameters:
  ///   - adapter: a folder, or a GGUF file
  ///   - config: the base's, asked for if the adapter has to be rewritten and its form does not say the base's sizes
  /// - Throws: `ModelError` naming the field or tensor that is wrong or not supported, and what `body` throws
  public static func withPEFTFolder<Value>(
    _ adapter: URL, config: @autoclosure () throws -> ModelConfig, _ body: (URL) throws -> Value
  ) throws -> Value {
    if case .peft = try form(of: adapter) { return try body(adapter) }
    let temporary = FileManager.default.temporaryDirectory.appending(path: "graft-\(UUID().uuidString)")
    // The name is the adapter's, for what is said of it.
    let rewritten = temporary.appending(path: modelStem(of: adapter.standardizedFileURL))
    defer { try? FileManager.default.removeItem(at: temporary) }
    // The adapter may be private.
    try FileManager.default.createDirectory(
      at: temporary, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    try FolderAccess.create(rewritten)
    _ = try rewrite(adapter, to: rewritten, config: config())
    return try body(rewritten)
  }

  /// The same for an adapter that there may not be.
  public static func withPEFTFolder<Value>(
    ifAny adapter: URL?, config: @autoclosure () throws -> ModelConfig, _ body: (URL?) throws -> Value
  ) throws -> Value {
    guard let adapter else { return try body(nil) }
    return try withPEFTFolder(adapter, config: config(), body)
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
      guard models.count < 2 else {
        throw ModelError(folder.lastPathComponent, reason: "has several GGUF files: \(models.joined(separator: ", "))")
      }
      if let name = models.first { return .gguf(folder.appending(path: name)) }
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
    if let module = adapter.modules.first(where: { $0.rank > PEFTConfig.maximumServedRank }) {
      throw ModelError(
        url.lastPathComponent, module.name,
        reason: "\(module.rank) is not a rank from 1 to \(PEFTConfig.maximumServedRank)")
    }
    return PlainFactors(
      modules: adapter.modules.map { module in
        PlainFactors.Module(
          name: module.name, rank: module.rank, alpha: adapter.alpha == 0 ? Double(module.rank) : adapter.alpha,
          columns: module.columns, outputs: module.outputs, a: { try adapter.a(module) }, b: { try adapter.b(module) })
      })
  }
}
