import Formats
import Foundation

/// The files of an adapter as PEFT saves it, and the errors for a path that has other files.
public enum PEFTFolder {
  /// Rank, alpha and targets of the adapter, as JSON.
  public static let configurationFile = "adapter_config.json"
  /// The adapter's tensors.
  public static let weightsFile = "adapter_model.safetensors"

  /// Checks that a path may be a PEFT folder. A path that does not exist passes, since opening its files then throws.
  /// - Throws: `ModelError` for a file, and for a folder with an adapter in GGUF
  static func check(_ url: URL) throws {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) else { return }
    let name = url.lastPathComponent
    guard isFolder.boolValue else {
      if name.hasSuffix(".gguf") { throw gguf(name) }
      throw ModelError(name, reason: "is a file; an adapter is a folder with adapter_config.json and its safetensors")
    }
    let names = try self.names(in: url)
    if !names.contains(configurationFile), let file = names.first(where: { $0.hasSuffix(".gguf") }) {
      throw gguf(file)
    }
  }

  /// Checks that a folder's weights are in safetensors. A folder without any weights passes, since opening them then
  /// throws.
  /// - Throws: `ModelError` for a folder that has weights in another form instead
  static func checkWeights(_ folder: URL) throws {
    let names = try self.names(in: folder)
    guard !names.contains(weightsFile) else { return }
    if names.contains("adapter_model.bin") {
      throw ModelError("adapter_model.bin", reason: "pickle files are not read; convert to safetensors")
    }
    if names.contains("adapters.safetensors") || names.contains("adapters.npz") {
      throw ModelError(
        folder.lastPathComponent,
        reason: "holds an MLX-LM adapter, which can only be read together with its base")
    }
    if let file = names.first(where: { $0.hasSuffix(".gguf") }) { throw gguf(file) }
  }

  private static func names(in folder: URL) throws -> [String] {
    do { return try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() } catch {
      throw ModelError(folder.path, reason: "cannot be read: \(error.localizedDescription)")
    }
  }

  private static func gguf(_ name: String) -> ModelError {
    ModelError(name, reason: "is an adapter in GGUF, which can only be read together with its base")
  }
}
