public import Foundation
import Formats
import Logging
public import Model
import Synchronization

/// Changes of names and versions. Each is on the disk, and known to requests, when the call returns.
extension AdapterStore {
  /// Registers a folder inside `folder` under a name: as a new version, or as the version that has the same contents.
  /// - Parameters:
  ///   - path: relative to `folder`, or absolute inside it
  ///   - pinned: whether the adapter is never evicted from memory; `nil` leaves that as it was
  /// - Throws: `AdapterError` of nearly any kind, with nothing changed
  @discardableResult
  public func load(name: String, path: String, pinned: Bool? = nil) throws(AdapterError) -> AdapterRecord {
    try check(name: name)
    guard let folder else {
      throw AdapterError(
        .badPath, "the server has no folder of adapters, so no adapter can be loaded from a path", setting: .folder)
    }
    let source = try folder.confined(path)
    // For a folder that is loaded under its own name, the identity is recorded, so that the next scan need not read it
    // again.
    let isOwnFolder = AdapterFolder.paths(of: name).contains { (try? folder.confined($0)) == source }
    return try exclusively { () throws(AdapterError) in
      let identity = isOwnFolder ? AdapterFolder.identity(of: source) : nil
      return try register(name, source, origin: source.path, pinned: pinned, identity: identity)
    }
  }

  /// Registers a folder from anywhere: one of an upload or of training, or one that the server's operator named.
  /// - Parameters:
  ///   - origin: what lists show as its source
  ///   - pinned: whether the adapter is never evicted from memory; `nil` leaves that as it was
  @discardableResult
  public func load(
    name: String, folder: URL, origin: String?, pinned: Bool? = nil
  ) throws(AdapterError) -> AdapterRecord {
    try check(name: name)
    return try exclusively { () throws(AdapterError) in
      try register(name, folder, origin: origin, pinned: pinned)
    }
  }

  /// Loads a version from the data folder again: requests can use the name, the version is the current one, and it is read
  /// into memory.
  /// - Parameters:
  ///   - number: `nil` for the current version
  ///   - pinned: whether the adapter is never evicted from memory; `nil` leaves that as it was
  /// - Throws: `AdapterError`, with nothing changed
  @discardableResult
  public func reload(
    name: String, version number: Int? = nil, pinned: Bool? = nil
  ) throws(AdapterError) -> AdapterRecord {
    try exclusively { () throws(AdapterError) in
      guard let record = state.withLock({ $0.registry[name] }), !record.versions.isEmpty else {
        throw AdapterError(.unknownName, "no adapter is called '\(name)'")
      }
      guard let version = number.map({ record.version($0) }) ?? record.current else {
        throw AdapterError(.unknownName, "the adapter '\(name)' has no version \(number ?? 0)")
      }
      guard contents.isIntact(version.contentHash) else {
        throw AdapterError(.damaged, "adapter '\(name)': its stored contents are damaged")
      }
      return try register(name, contents.location(version.contentHash), origin: version.source, pinned: pinned)
    }
  }

  /// Hides a name from requests until it is loaded again. Requests that run with the adapter keep it.
  public func unload(name: String) throws(AdapterError) {
    try exclusively { () throws(AdapterError) in
      guard var record = state.withLock({ $0.registry[name] }), record.isLoaded else {
        throw AdapterError(.unknownName, "no adapter is called '\(name)'")
      }
      record.isLoaded = false
      record.isPinned = false
      try commit(record)
    }
  }

  /// Removes a version or all versions, and deletes contents that no other version has. Where the current version is
  /// removed, the newest that is left becomes the current one. Requests that run with the adapter keep it.
  /// - Parameter number: `nil` removes all versions
  public func remove(name: String, version number: Int? = nil) throws(AdapterError) {
    try exclusively { () throws(AdapterError) in
      guard var record = state.withLock({ $0.registry[name] }), !record.versions.isEmpty else {
        throw AdapterError(.unknownName, "no adapter is called '\(name)'")
      }
      guard number == nil || record.version(number ?? 0) != nil else {
        throw AdapterError(.unknownName, "the adapter '\(name)' has no version \(number ?? 0)")
      }
      record.versions.removeAll { number == nil || $0.number == number }
      if record.current == nil { record.currentNumber = record.versions.last?.number }
      if record.versions.isEmpty {
        record.isLoaded = false
        record.isPinned = false
      }
      try commit(record)
    }
  }

  /// Removes the oldest versions of every name. The current version always stays.
  /// - Parameters:
  ///   - count: how many versions of a name stay; at least 1
  ///   - unloaded: removes all versions of unloaded names, too
  /// - Returns: the versions that were removed
  @discardableResult
  public func prune(keeping count: Int, unloaded: Bool = false) throws(AdapterError) -> [AdapterReference] {
    try exclusively { () throws(AdapterError) in
      var dropped: [AdapterReference] = []
      for name in state.withLock({ $0.registry.allNames }).sorted() {
        guard let old = state.withLock({ $0.registry[name] }) else { continue }
        var record = old
        if unloaded, !record.isLoaded {
          record.versions = []
          record.currentNumber = nil
        }
        Self.prune(&record, keeping: count)
        guard record != old else { continue }
        try commit(record)
        dropped += old.versions.filter { record.version($0.number) == nil }
          .map { AdapterReference(name: old.name, version: $0.number) }
      }
      return dropped
    }
  }

  /// Checks that an adapter may have a name.
  /// - Throws: `AdapterError` for a name that no adapter can have
  public func check(name: String) throws(AdapterError) {
    if let problem = AdapterName.problem(name) {
      throw AdapterError(.badName, "'\(name.prefix(AdapterName.maxLength))' is no adapter name: \(problem)")
    }
    guard !settings.reservedNames.contains(name) else { throw AdapterError(.badName, "'\(name)' is the base's name") }
  }

  /// Runs a change of database and contents while no other runs.
  func exclusively<Value>(_ body: () throws(AdapterError) -> Value) throws(AdapterError) -> Value {
    try writing.withLock { _ throws(AdapterError) in try body() }
  }

  // MARK: steps of the above, inside `exclusively`

  /// Registers a folder under a name that was checked.
  /// - Parameter identity: of the folder, if the next scan need not read it again
  @discardableResult
  func register(
    _ name: String, _ source: URL, origin: String?, pinned: Bool? = nil, identity: String? = nil
  ) throws(AdapterError) -> AdapterRecord {
    let (adapter, hash, fileBytes) = try store(source, name: name)
    let old = state.withLock { $0.registry[name] }
    var record =
      old
      ?? AdapterRecord(name: name, versions: [], currentNumber: nil, lastNumber: 0, isLoaded: false, isPinned: false)
    if let same = record.versions.last(where: { $0.contentHash == hash && binding.fits($0) }) {
      record.currentNumber = same.number
    } else {
      record.lastNumber += 1
      record.currentNumber = record.lastNumber
      record.versions.append(
        AdapterVersion(
          number: record.lastNumber, contentHash: hash, base: binding.fingerprint ?? "", rank: adapter.rank,
          targets: adapter.targets, memoryBytes: adapter.bytes, fileBytes: fileBytes,
          createdAt: Int(Date().timeIntervalSince1970), source: origin))
    }
    record.isLoaded = true
    record.isPinned = pinned ?? record.isPinned
    Self.prune(&record, keeping: settings.versionsKept)
    let isKept = try admit(adapter, hash: hash, name: name, isPinned: record.isPinned)
    do {
      try commit(record, mark: identity.map { AdapterFolderMark(identity: $0, contentHash: hash) }) { state in
        if state.cache.use(hash, keeping: isKept) == nil { state.cache.insert(adapter, hash: hash, keeping: isKept) }
        state.registry.refuse(name, nil)
        state.damages[hash] = nil
        state.sizes[hash] = adapter.bytes
      }
    } catch {
      state.withLock { $0.cache.giveUpReservation(of: hash) }
      throw error
    }
    return record
  }

  /// Copies a folder's files into the data folder unless they are there, and reads the adapter from the data folder. An
  /// adapter in another form than PEFT's is rewritten first.
  private func store(_ source: URL, name: String) throws(AdapterError) -> (Adapter, hash: String, bytes: Int) {
    func refused(_ error: any Error) -> AdapterError { AdapterError(.refused, "adapter '\(name)': \(error)") }
    guard let config = binding.preparer?.base.config, AdapterImport.isNeeded(source) else {
      return try storePEFT(source, name: name)
    }
    let rewritten = try storing { try contents.makeStaging() }
    defer { contents.discard(rewritten) }
    let isRewritten: Bool
    do { isRewritten = try AdapterImport.rewrite(source, to: rewritten, config: config) } catch { throw refused(error) }
    for note in AdapterImport.notes(source) {
      logger.warning("adapter's form", metadata: ["name": .string(name), "reason": .string(note)])
    }
    return try storePEFT(isRewritten ? rewritten : source, name: name)
  }

  private func storePEFT(_ source: URL, name: String) throws(AdapterError) -> (Adapter, hash: String, bytes: Int) {
    func refused(_ error: any Error) -> AdapterError { AdapterError(.refused, "adapter '\(name)': \(error)") }
    var (hash, bytes) = ("", 0)
    do { (hash, bytes) = try contents.hash(of: source) } catch {
      // Reading the adapter may give a better reason.
      do { try binding.preparer?.check(source) } catch { throw refused(error) }
      throw refused(error)
    }
    if contents.isIntact(hash) {
      if let adapter = state.withLock({ $0.cache.use(hash, keeping: false) }) { return (adapter, hash, bytes) }
      do { return (try open(contents.location(hash), hash: hash), hash, bytes) } catch { throw refused(error) }
    }
    let staging = try storing { try contents.makeStaging() }
    defer { contents.discard(staging) }
    (hash, bytes) = try storing { try contents.copy(from: source, to: staging) }
    let adapter: Adapter
    do { adapter = try open(staging, hash: hash) } catch { throw refused(error) }
    if state.withLock({ $0.registry.isEmpty }) {
      // The name is recorded before the first contents are stored. So contents in a database without names show that it
      // has lost them.
      try commit(
        AdapterRecord(name: name, versions: [], currentNumber: nil, lastNumber: 0, isLoaded: false, isPinned: false))
    }
    try storing { try contents.adopt(staging, hash: hash) }
    return (adapter, hash, bytes)
  }

  /// Whether the memory budget allows to keep the adapter now.
  /// - Throws: `AdapterError` if it never can, or if the adapter is pinned and it does not
  private func admit(_ adapter: Adapter, hash: String, name: String, isPinned: Bool) throws(AdapterError) -> Bool {
    guard adapter.bytes <= settings.memory else {
      throw AdapterError(
        .refused,
        "adapter '\(name)': it takes \(adapter.bytes) bytes of memory, more than the \(settings.memory) that there are "
          + "for all", setting: .memory)
    }
    if isPinned {
      let sum = adapter.bytes + state.withLock { $0.registry.pinnedBytes(besides: name, hash) }
      guard sum <= settings.memory else {
        throw AdapterError(
          .refused,
          "adapter '\(name)': pinned adapters would take \(sum) bytes of memory, more than the \(settings.memory) that "
            + "there are for all", setting: .memory)
      }
    }
    if state.withLock({ $0.cache.contains(hash) }) { return true }
    do throws(AdapterError) {
      try makeRoom(for: adapter.bytes, of: hash, patience: isPinned ? settings.patience : .zero)
      return true
    } catch {
      if isPinned { throw error }
      return false
    }
  }

  /// Saves a name's record, first on the disk and then for requests, and deletes contents that no record refers to any
  /// more.
  /// - Parameters:
  ///   - mark: what the next scan should know of the name's folder
  ///   - change: further changes of the state, under the same lock
  func commit(
    _ record: AdapterRecord, mark: AdapterFolderMark? = nil, _ change: (inout State) -> Void = { _ in }
  ) throws(AdapterError) {
    let old = state.withLock { $0.registry[record.name] }
    if old != record || mark != nil { try storing { try database.save(record, mark: mark) } }
    // Dropped adapters are freed here, outside the lock.
    let (_, orphans) = state.withLock { state in
      let orphans = state.registry.set(record)
      change(&state)
      let former = Set((old?.versions ?? []).map(\.contentHash))
      for hash in former.union(record.versions.map(\.contentHash)) {
        state.cache.setPinned(state.registry.isPinned(hash), hash)
      }
      for hash in orphans {
        state.damages[hash] = nil
        state.sizes[hash] = nil
      }
      return (former.filter { !state.registry.isCurrent($0) }.compactMap { state.cache.drop($0) }, orphans)
    }
    for hash in orphans { contents.remove(hash) }
    advance()
  }

  private static func prune(_ record: inout AdapterRecord, keeping count: Int) {
    let surplus = surplus(of: record.versions.map(\.number), current: record.currentNumber, keeping: count)
    record.versions.removeAll { surplus.contains($0.number) }
  }

  /// The versions of a name that go when `count` are kept: all but the newest. The current version stays; if it is an old one,
  /// it takes the place of the oldest of the others.
  /// - Parameter versions: in ascending order
  public static func surplus(of versions: [Int], current: Int?, keeping count: Int) -> Set<Int> {
    var kept = versions.suffix(max(count, 1))
    if let current, versions.contains(current), !kept.contains(current) { kept = [current] + kept.dropFirst() }
    return Set(versions).subtracting(kept)
  }

  private func storing<Value>(_ body: () throws -> Value) throws(AdapterError) -> Value {
    do { return try body() } catch { throw AdapterError(.storage, "the adapter cannot be stored: \(error)") }
  }
}
