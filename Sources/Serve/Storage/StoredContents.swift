import Formats
internal import Foundation
internal import Model

/// Something in a data folder that a record of the database stands for: an adapter's contents, an uploaded file, a job's
/// folder.
public struct StoredContents: Sendable, Hashable {
  public enum Kind: String, Sendable, CaseIterable {
    case adapter, file, job

    /// The folder of the data folder that has them.
    var folder: String { "\(rawValue)s" }

    func isNamed(_ name: String) -> Bool {
      switch self {
      case .adapter: AdapterContents.isHash(name)
      case .file: name.hasPrefix(FileStore.prefix)
      case .job: name.hasPrefix(FineTuningFolder.prefix)
      }
    }
  }

  public let kind: Kind
  public let name: String
}

extension [StoredContents] {
  /// "3 adapters, 1 job"
  public var summary: String {
    StoredContents.Kind.allCases.compactMap { kind in
      let count = count { $0.kind == kind }
      return count == 0 ? nil : "\(count) \(kind)\(count == 1 ? "" : "s")"
    }.joined(separator: ", ")
  }
}

extension DataFolder {
  func location(_ contents: StoredContents) -> URL {
    url.appending(path: contents.kind.folder).appending(path: contents.name)
  }

  /// Everything in the folder that needs a record, sorted.
  var contents: [StoredContents] {
    StoredContents.Kind.allCases.flatMap { kind in
      let names = (try? FileManager.default.contentsOfDirectory(atPath: url.appending(path: kind.folder).path)) ?? []
      return names.filter(kind.isNamed).sorted().map { StoredContents(kind: kind, name: $0) }
    }
  }

  /// What no record names: a database was lost or restored, a record is damaged, or the process ended between writing
  /// one and the other. It stays until `remove` is asked for.
  /// - Throws: `ModelError` if the database cannot be read
  public func unrecorded(in database: MetadataDatabase) throws -> [StoredContents] {
    let contents = contents
    if contents.isEmpty { return [] }
    let recorded = try database.recordedContents()
    return contents.filter { !recorded.contains($0) }
  }

  /// Deletes contents, for good.
  /// - Throws: `ModelError` naming what cannot be deleted
  public func remove(_ contents: StoredContents) throws {
    let url = location(contents)
    do { try FileManager.default.removeItem(at: url) } catch {
      throw ModelError(url.path, reason: "cannot be deleted: \(error.localizedDescription)")
    }
  }
}
