import Formats
import Foundation
import Model

/// Writes an uploaded file from a multipart body to the data folder. The parts are `file` and `purpose`. The file is on the
/// disk when `finish` returns.
final class FileUpload: UploadParts {
  private let store: FileStore
  private let id = FileStore.makeID()
  private var file: AtomicFile?
  private var filename: String?
  private var bytes = 0
  private var field: (name: String, value: [UInt8])?
  private var fields: [String: String] = [:]

  static let purposes = ["fine-tune", "fine-tune-results", "batch"]
  private static let maximumFieldBytes = 1024

  init(_ store: FileStore) { self.store = store }

  var sizeLimit: Int { store.sizeLimit }
  var storageFailureStatus: Int { 507 }

  func tooLarge(bodyLimit: Int) -> APIError { tooLarge }

  private var tooLarge: APIError { .plain(status: 413, message: "The file is over \(sizeLimit) bytes") }

  func abandon() { file = nil }

  func take(_ event: MultipartParser.Event) throws {
    switch event {
    case .began(let part):
      if part.name == "file" {
        guard filename == nil else { throw APIError.invalid("'file' is sent twice", param: "file") }
        filename = part.lastPathComponent.flatMap { $0.isEmpty ? nil : String($0.prefix(255)) } ?? "file"
        file = try AtomicFile(store.location(id))
      } else {
        field = (part.name, [])
      }
    case .bytes(let chunk):
      if let file, field == nil {
        bytes += chunk.count
        guard bytes <= sizeLimit else { throw tooLarge }
        return try file.write(chunk)
      }
      guard let name = field?.name, (field?.value.count ?? 0) + chunk.count <= Self.maximumFieldBytes else {
        throw APIError.invalid("the part '\(field?.name ?? "")' is too long", param: field?.name, code: "invalid_value")
      }
      field = (name, (field?.value ?? []) + Array(chunk))
    case .ended:
      if let (name, value) = field {
        guard let text = String(validating: value, as: UTF8.self), fields.updateValue(text, forKey: name) == nil else {
          throw APIError.invalid("the part '\(name)' is no text, or sent twice", param: name, code: "invalid_value")
        }
        field = nil
      }
    }
  }

  func finish() throws -> StoredFile {
    guard let file, let filename else {
      throw APIError.invalid("'file' is missing", param: "file", code: "missing_required_parameter")
    }
    guard let purpose = fields["purpose"] else {
      throw APIError.invalid("'purpose' is missing", param: "purpose", code: "missing_required_parameter")
    }
    guard Self.purposes.contains(purpose) else {
      throw APIError.invalid(
        "'\(purpose.excerpt(40))' is not one of \(Self.purposes.map { "'\($0)'" }.joined(separator: ", "))",
        param: "purpose", code: "invalid_value")
    }
    if let other = fields.keys.filter({ $0 != "purpose" }).min() {
      throw APIError.invalid(
        "'\(other)' is not supported by this server", param: other, code: "unsupported_parameter")
    }
    let stored = StoredFile(
      id: id, bytes: bytes, createdAt: FineTuningService.now, filename: filename, purpose: purpose)
    try file.finish()
    self.file = nil
    try store.add(stored)
    return stored
  }
}
