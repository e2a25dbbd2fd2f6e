import Foundation
import Model
import Synchronization

extension AdapterStore {
  /// Registers what is new in `--adapters`, where each folder is an adapter of its own name, and brings pinned adapters
  /// into memory. A folder whose contents have changed since the last scan is a new version; a name that was unloaded
  /// stays so, and one that was loaded from elsewhere keeps what it was loaded with.
  /// - Returns: what was refused, and why
  /// - Throws: `ModelError` if the folder or the database cannot be read
  public func scan() throws -> [(name: String, reason: String)] {
    var refused: [(name: String, reason: String)] = []
    if let folder {
      let marks = try database.folderMarks()
      for name in try folder.names() {
        do throws(AdapterError) {
          try exclusively { () throws(AdapterError) in try scan(name, in: folder, mark: marks[name]) }
        } catch {
          refused.append((name, error.description))
          state.withLock { $0.registry.refuse(name, reason: error.description) }
        }
      }
    }
    for record in served(after: nil, limit: nil).elements where record.isPinned {
      do throws(AdapterError) { _ = try acquireWaiting([AdapterReference(name: record.name)]) } catch {
        refused.append((record.name, error.description))
      }
    }
    return refused
  }

  private func scan(_ name: String, in folder: AdapterFolder, mark: AdapterFolderMark?) throws(AdapterError) {
    // What the database has lost is registered as if it were new.
    let known = state.withLock { $0.registry[name] }.flatMap { $0.hasLostItsCurrentVersion ? nil : $0 }
    // A name that was given before the rules were as they are keeps what it has.
    if known?.current == nil { try check(name: name) }
    let source = try folder.confined(name)
    let identity = AdapterFolder.identity(of: source)
    if known != nil, let mark, !identity.isEmpty, mark.identity == identity { return }
    if let known, let hash = try? contents.hash(of: source).hash,
      !known.isLoaded || mark?.contentHash == hash || known.versions.contains(where: { $0.contentHash == hash })
    {
      do { try database.save(AdapterFolderMark(identity: identity, contentHash: hash), of: name) } catch {
        throw AdapterError(.storage, "\(error)")
      }
      return
    }
    try check(name: name)
    try register(name, source, origin: source.path, identity: identity)
  }
}
