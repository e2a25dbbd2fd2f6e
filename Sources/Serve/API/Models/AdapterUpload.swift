import Formats
import Foundation
import Model

/// Writes an adapter's two files from a multipart body to a staging folder in the data folder.
final class AdapterUpload: UploadParts {
  /// What was received. The caller removes the folder.
  struct Received: Sendable {
    var folder: URL
    var pinned: Bool?
  }

  private let contents: AdapterContents
  private var folder: URL?
  private var file: AtomicFile?
  private var received: Set<String> = []
  private var field: (name: String, value: [UInt8])?
  private var pinned: Bool?

  init(_ contents: AdapterContents) { self.contents = contents }

  var sizeLimit: Int { contents.sizeLimit }
  var storageFailureStatus: Int { 500 }

  func tooLarge(bodyLimit: Int) -> APIError {
    .plain(status: 413, message: "The request body is over \(bodyLimit) bytes")
  }

  func abandon() {
    file = nil
    if let folder { contents.discard(folder) }
    folder = nil
  }

  func take(_ event: MultipartParser.Event) throws {
    switch event {
    case .began(let part): try begin(part)
    case .bytes(let bytes):
      if let file { return try file.write(bytes) }
      guard (field?.value.count ?? 0) + bytes.count <= 64 else { throw Self.notPinned }
      field?.value += Array(bytes)
    case .ended:
      try file?.finish()
      file = nil
      guard let text = field.map({ String(decoding: $0.value, as: UTF8.self) }) else { return }
      guard text == "true" || text == "false" else { throw Self.notPinned }
      pinned = text == "true"
      field = nil
    }
  }

  private static let ggufSuffix = ".gguf"

  private static var notPinned: APIError {
    .invalid("the part 'pinned' must be true or false", param: "pinned", code: "invalid_value")
  }

  private func begin(_ part: MultipartPart) throws {
    if part.filename == nil, part.name == "pinned" {
      field = (part.name, [])
      return
    }
    let candidates = [part.lastPathComponent, part.name].compactMap(\.self)
    let found = candidates.first { AdapterContents.fileNames.contains($0) || AdapterImport.isForeign($0) }
    // Only its end says what a GGUF file is.
    guard let name = found.map({ $0.hasSuffix(Self.ggufSuffix) ? "adapter" + Self.ggufSuffix : $0 }) else {
      throw APIError.invalid(
        "the part '\(part.filename ?? part.name)' is neither \(AdapterContents.fileNames.joined(separator: " nor "))",
        param: part.name, code: "invalid_value")
    }
    guard received.insert(name).inserted else {
      throw APIError.invalid("\(name) is sent twice", param: part.name, code: "invalid_value")
    }
    if folder == nil { folder = try contents.makeStaging() }
    guard let folder else { return }
    file = try AtomicFile(folder.appending(path: name))
  }

  func finish() throws -> Received {
    let foreign = received.filter(AdapterImport.isForeign)
    let wanted =
      foreign.isEmpty
      ? AdapterContents.fileNames : foreign == [AdapterImport.mlxFile] ? [PEFTFolder.configurationFile] : []
    if let name = foreign.first, received.count != wanted.count + 1 {
      throw APIError.invalid(
        "\(name) cannot go with the other files that were sent", param: name, code: "invalid_value")
    }
    for name in wanted where !received.contains(name) {
      throw APIError.invalid("\(name) is missing", param: name, code: "missing_required_parameter")
    }
    guard let folder else { throw APIError.plain(status: 400, message: "nothing was sent") }
    self.folder = nil
    return Received(folder: folder, pinned: pinned)
  }
}
