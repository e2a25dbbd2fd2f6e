import Foundation
public import Model
import Synchronization

/// Registering the folders that the server was started with.
extension AdapterStore {
  /// Registers the new folders of `folder` and its GGUF files, each under its own name, and reads pinned adapters into memory.
  ///
  /// A folder whose contents have changed since the last scan becomes a new version. A name that was unloaded stays so; a
  /// name that was loaded from another folder keeps its version.
  /// - Returns: the names that were refused, and why
  /// - Throws: `ModelError` if the folder or the database cannot be read
  public func scan() throws -> [(name: String, error: AdapterError)] {
    var refused: [(name: String, error: AdapterError)] = []
    if let folder {
      let marks = try database.folderMarks()
      var names: Set<String> = []
      for entry in try folder.entries() {
        // A file beside a folder of the same name is refused by its whole name.
        let name = names.insert(entry.name).inserted ? entry.name : entry.path
        do throws(AdapterError) {
          guard name == entry.name else {
            throw AdapterError(.badName, "'\(entry.path)' would have the name of the folder '\(entry.name)'")
          }
          try exclusively { () throws(AdapterError) in try scan(entry, in: folder, mark: marks[name]) }
        } catch {
          refused.append((name, error))
          state.withLock { $0.registry.refuse(name, error) }
        }
      }
    }
    for record in served(after: nil, limit: nil).elements where record.isPinned {
      do throws(AdapterError) { _ = try acquireWaiting([AdapterReference(name: record.name)]) } catch {
        refused.append((record.name, error))
      }
    }
    return refused
  }

  private func scan(
    _ entry: AdapterFolder.Entry, in folder: AdapterFolder, mark: AdapterFolderMark?
  ) throws(AdapterError) {
    let name = entry.name
    // A name whose record was lost is registered as if it were new.
    let known = state.withLock { $0.registry[name] }.flatMap { $0.hasLostItsCurrentVersion ? nil : $0 }
    // A name that was registered under earlier rules for names stays usable.
    if known?.current == nil { try check(name: name) }
    let source = try folder.confined(entry.path)
    let identity = AdapterFolder.identity(of: source)
    if known != nil, let mark, !identity.isEmpty, mark.identity == identity { return }
    // What an adapter in another form contains is known when it is rewritten.
    if let known, !known.isLoaded, AdapterImport.isNeeded(source) { return }
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
