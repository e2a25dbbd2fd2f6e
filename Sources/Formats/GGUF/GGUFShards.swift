import Foundation

/// The files of a GGUF model: one, or the parts that llama.cpp's `gguf-split` makes of one. Parts are called
/// NAME-00001-of-00003.gguf and so on; the first holds the metadata, and each holds some of the tensors.
struct GGUFShards {
  /// The file that holds the metadata.
  let first: GGUFFile
  /// All parts, in order.
  let files: [GGUFFile]
  /// The tensors of all parts, by name.
  let tensors: [String: GGUFFile.Tensor]
  /// The index in `files` of the part that holds a tensor.
  private let owners: [String: Int]

  private static let countLimit = 4096
  /// The metadata that is read of other parts than the first.
  private static let partKeys: Set<String> = ["split.no", "split.count"]

  /// - Parameters:
  ///   - url: the only file, or any of the parts
  ///   - allowance: what all parts together may have in memory
  /// - Throws: `ModelError` naming the part that is missing, of another model, or holds a tensor that another has too
  init(_ url: URL, allowance: GGUFAllowance = GGUFAllowance()) throws {
    var own = allowance
    let file = try GGUFFile(url, allowance: &own)
    guard let count = try Self.integer("split.count", of: file), count > 1 else {
      self.init(first: file, files: [file], tensors: file.tensors, owners: file.tensors.mapValues { _ in 0 })
      return
    }
    guard count <= Self.countLimit else { throw ModelError(file.name, "split.count", reason: "\(count) parts") }
    guard let stem = Self.stem(url.lastPathComponent, count: count) else {
      throw ModelError(
        file.name, reason: "is one of \(count) parts, whose names must end in -00001-of-\(Self.padded(count)).gguf")
    }
    let folder = url.deletingLastPathComponent()
    var files: [GGUFFile] = []
    var tensors: [String: GGUFFile.Tensor] = [:]
    var owners: [String: Int] = [:]
    var allowance = allowance
    for number in 0..<count {
      let name = "\(stem)-\(Self.padded(number + 1))-of-\(Self.padded(count)).gguf"
      let part = try GGUFFile(folder.appending(path: name), allowance: &allowance) {
        number == 0 || Self.partKeys.contains($0)
      }
      guard try Self.integer("split.no", of: part) == number, try Self.integer("split.count", of: part) == count else {
        throw ModelError(name, "split.no", reason: "is not part \(number + 1) of \(count)")
      }
      for (tensor, entry) in part.tensors {
        guard owners.updateValue(number, forKey: tensor) == nil else {
          throw ModelError(name, tensor, reason: "is in another part too")
        }
        tensors[tensor] = entry
      }
      files.append(part)
    }
    if let total = try Self.integer("split.tensors.count", of: files[0]), total != tensors.count {
      throw ModelError(files[0].name, "split.tensors.count", reason: "\(total), but the parts have \(tensors.count)")
    }
    self.init(first: files[0], files: files, tensors: tensors, owners: owners)
  }

  private init(
    first: GGUFFile, files: [GGUFFile], tensors: [String: GGUFFile.Tensor], owners: [String: Int]
  ) {
    self.first = first
    self.files = files
    self.tensors = tensors
    self.owners = owners
  }

  /// The name of the file that holds a tensor, for errors.
  func subject(_ tensor: String) -> String { files[owners[tensor] ?? 0].name }

  /// `GGUFFile.readRows`, of the file that holds the tensor.
  func readRows(_ name: String, rows: Range<Int>, into destination: UnsafeMutableBufferPointer<Float>) throws {
    try files[owners[name] ?? 0].readRows(name, rows: rows, into: destination)
  }

  /// "NAME" of "NAME-00002-of-00003.gguf".
  static func stem(_ fileName: String, count: Int) -> String? {
    let end = "-of-\(padded(count)).gguf"
    guard fileName.hasSuffix(end) else { return nil }
    let rest = fileName.dropLast(end.count)
    let digits = rest.suffix(5)
    guard digits.count == 5, digits.allSatisfy({ $0.isASCII && $0.isNumber }), rest.dropLast(5).hasSuffix("-") else {
      return nil
    }
    return String(rest.dropLast(6))
  }

  private static func padded(_ number: Int) -> String {
    let digits = String(number)
    return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
  }

  private static func integer(_ key: String, of file: GGUFFile) throws -> Int? {
    guard let value = file.metadata[key] else { return nil }
    guard case .integer(let integer) = value else { throw ModelError(file.name, key, reason: "not an integer") }
    return integer
  }
}
