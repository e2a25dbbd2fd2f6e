import Formats
internal import Foundation
internal import Model

/// Contents of a data folder that need a record in the database: an adapter's files, an uploaded file, or a job's folder.
public struct StoredContents: Sendable, Hashable {
  /// What the contents are.
  public enum Kind: String, Sendable, CaseIterable {
    /// An adapter's files, an uploaded file, or a job's folder.
    case adapter, file, job

    /// The folder inside the data folder that has them.
    var folder: String { "\(rawValue)s" }

    /// Whether a name is one that Graft gives to such contents.
    func isNamed(_ name: String) -> Bool {
      switch self {
      case .adapter: AdapterContents.isHash(name)
      case .file: name.hasPrefix(FileStore.prefix)
      case .job: name.hasPrefix(FineTuningFolder.prefix)
      }
    }
  }

  /// What the contents are.
  public let kind: Kind
  /// Their name in the kind's folder.
  public let name: String
}

extension [StoredContents] {
  /// How many there are of each kind, such as "3 adapters, 1 job".
  public var summary: String {
    StoredContents.Kind.allCases.compactMap { kind in
      let count = count { $0.kind == kind }
      return count == 0 ? nil : "\(count) \(kind)\(count == 1 ? "" : "s")"
    }.joined(separator: ", ")
  }
}

extension DataFolder {
  /// Where contents are.
  func location(_ contents: StoredContents) -> URL {
    url.appending(path: contents.kind.folder).appending(path: contents.name)
  }

  /// Everything in the folder that needs a record, sorted by kind and name.
  var contents: [StoredContents] {
    StoredContents.Kind.allCases.flatMap { kind in
      let names = (try? FileManager.default.contentsOfDirectory(atPath: url.appending(path: kind.folder).path)) ?? []
      return names.filter(kind.isNamed).sorted().map { StoredContents(kind: kind, name: $0) }
    }
  }

  /// The contents without a record: a database was lost or restored, a record is damaged, or the process ended between
  /// writing contents and record. They stay until `remove` is called.
  /// - Throws: `ModelError` if the database cannot be read
  public func unrecorded(in database: MetadataDatabase) throws -> [StoredContents] {
    let contents = contents
    if contents.isEmpty { return [] }
    let recorded = try database.recordedContents()
    return contents.filter { !recorded.contains($0) }
  }

  /// Deletes contents.
  /// - Throws: `ModelError` naming what cannot be deleted
  public func remove(_ contents: StoredContents) throws {
    let url = location(contents)
    do { try FileManager.default.removeItem(at: url) } catch {
      throw ModelError(url.path, reason: "cannot be deleted: \(error.localizedDescription)")
    }
  }
}
