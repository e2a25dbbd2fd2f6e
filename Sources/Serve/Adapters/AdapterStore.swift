public import Foundation
public import Logging
public import Model
internal import Synchronization

/// The adapters that requests may name: their versions and names in the database, their contents in the data folder,
/// as many of them in memory as the budget allows.
///
/// Whoever got an adapter from `acquire` keeps it until done, whatever happens to its name. Registering and removing
/// wait for disks and are not for the event loop; `acquire` and the lookups are for any thread.
public final class AdapterStore: Sendable {
  public struct Settings: Sendable {
    /// Bytes of adapters in memory.
    public var memory: Int
    /// How many versions of a name are kept, the current one among them.
    public var versionsKept: Int
    /// Most bytes that one adapter's files may have.
    public var sizeLimit: Int
    /// What already names the base.
    public var reservedNames: Set<String>
    /// How long an adapter waits for requests to give memory back before whoever asked for it is refused.
    public var patience: Duration

    public init(
      memory: Int = 1 << 30, versionsKept: Int = 5, sizeLimit: Int = 1 << 30, reservedNames: Set<String> = [],
      patience: Duration = .seconds(2)
    ) {
      self.memory = memory
      self.versionsKept = max(versionsKept, 1)
      self.sizeLimit = sizeLimit
      self.reservedNames = reservedNames
      self.patience = patience
    }
  }

  /// The base that adapters are for.
  public struct Binding: Sendable {
    /// `nil` where there is no base at hand, and the store is only looked through and tidied up.
    public var fingerprint: String?
    let preparer: (any AdapterPreparing)?

    public init(fingerprint: String, preparer: any AdapterPreparing) {
      self.fingerprint = fingerprint
      self.preparer = preparer
    }

    /// For whoever only lists and removes.
    public static let none = Binding()

    private init() {
      fingerprint = nil
      preparer = nil
    }

    func fits(_ version: AdapterVersion) -> Bool { fingerprint == nil || fingerprint == version.base }
  }

  struct State {
    var records: [String: AdapterRecord]
    var cache: AdapterCache
    /// Why a folder under `--adapters`, or contents in the data folder, cannot be used; by name, or by hash.
    var refusals: [String: String] = [:]
    var damages: [String: String] = [:]
    /// Who waits for contents that are being read.
    var waiting: [String: [@Sendable (Result<Adapter, AdapterError>) -> Void]] = [:]
  }

  /// Where adapters are read from when they are loaded by path.
  public let folder: AdapterFolder?
  public let contents: AdapterContents
  public let settings: Settings
  let binding: Binding
  let database: MetadataDatabase
  let state: Mutex<State>
  /// Held by whoever changes database and contents.
  let writing = Mutex(())
  /// Reads contents that requests wait for, one after the other.
  let loader = BackgroundQueue(label: "adapter loader", niceness: 4)
  private let dataFolder: DataFolder
  private let logger: Logger

  /// Reads what is known, and removes contents that nothing refers to. Nothing is loaded yet: `scan` does that.
  /// - Parameter logger: told of adapters that have to be prepared again, or cannot be
  /// - Throws: `ModelError` naming the file or folder that cannot be used
  public init(
    dataFolder: DataFolder, database: MetadataDatabase, binding: Binding, folder: URL? = nil,
    settings: Settings = Settings(), logger: Logger = Logger(label: "graft") { _ in SwiftLogNoOpLogHandler() }
  ) throws {
    self.dataFolder = dataFolder
    self.logger = logger
    self.database = database
    self.binding = binding
    self.settings = settings
    self.folder = folder.map(AdapterFolder.init)
    contents = try AdapterContents(dataFolder: dataFolder.url, sizeLimit: settings.sizeLimit)
    let records = try database.adapters()
    let hashes = Set(records.flatMap { $0.versions.map(\.contentHash) })
    contents.removeOrphans(keeping: hashes)
    var known = State(
      records: Dictionary(uniqueKeysWithValues: records.map { ($0.name, $0) }),
      cache: AdapterCache(budget: settings.memory))
    for hash in hashes where !contents.exists(hash) { known.damages[hash] = "its stored contents are missing" }
    state = Mutex(known)
  }

  // MARK: lookups

  /// The record that a request would find.
  public subscript(name: String) -> AdapterRecord? {
    state.withLock { state in
      guard let record = state.records[name], isServed(record) else { return nil }
      return record
    }
  }

  /// What requests may name, in the order of the names.
  public var served: [AdapterRecord] {
    state.withLock { state in state.records.values.filter(isServed) }.sorted { $0.name < $1.name }
  }

  /// Every name that is known or was refused, in order.
  public var listings: [AdapterListing] {
    state.withLock { state in
      let refused = state.refusals.keys.filter { (state.records[$0]?.versions ?? []).isEmpty }
      let known = state.records.values.filter { !$0.versions.isEmpty }.map(\.name)
      return (known + refused).compactMap { listing($0, state) }
    }.sorted { $0.record.name < $1.record.name }
  }

  public func listing(_ name: String) -> AdapterListing? { state.withLock { listing(name, $0) } }

  /// Bytes and number of the adapters in memory, those that requests alone still hold among them.
  public var memoryInUse: (bytes: Int, count: Int) { state.withLock { ($0.cache.bytes, $0.cache.count) } }

  func isServed(_ record: AdapterRecord) -> Bool {
    record.isLoaded && record.current.map(binding.fits) == true
  }

  private func listing(_ name: String, _ state: State) -> AdapterListing? {
    let refusal = state.refusals[name]
    guard let record = state.records[name], let current = record.current else {
      return refusal.map {
        AdapterListing(
          record: AdapterRecord(
            name: name, versions: [], currentNumber: nil, lastNumber: 0, isLoaded: false, isPinned: false),
          state: .refused(reason: $0), versionStates: [:])
      }
    }
    var states: [Int: AdapterState] = [:]
    for version in record.versions {
      states[version.number] =
        if let reason = state.damages[version.contentHash] {
          .refused(reason: reason)
        } else if !binding.fits(version) {
          .incompatible(reason: Self.incompatibility(version))
        } else if !record.isLoaded {
          .unloaded
        } else {
          state.cache.contains(version.contentHash) ? .loaded : .onDisk
        }
    }
    return AdapterListing(record: record, state: states[current.number] ?? .onDisk, versionStates: states)
  }

  static func incompatibility(_ version: AdapterVersion) -> String {
    "it was registered for another base (\(version.base.prefix(16))…)"
  }

  // MARK: memory

  /// The hashes of pinned names' current versions.
  func pinned(_ state: State) -> Set<String> {
    Set(state.records.values.compactMap { $0.isPinned && isServed($0) ? $0.current?.contentHash : nil })
  }

  /// Whether some name that is served means these contents.
  static func isWanted(_ hash: String, _ state: State) -> Bool {
    state.records.values.contains { $0.isLoaded && $0.current?.contentHash == hash }
  }

  /// Maps an adapter's folder; where that was not prepared, or is damaged, it is prepared after `verify` has found the
  /// files intact that the adapter is made of.
  func open(_ folder: URL, hash: String, verify: () throws -> Void = {}) throws -> Adapter {
    guard let preparer = binding.preparer else {
      throw ModelError(folder.path, reason: "cannot be read without a base")
    }
    do {
      if let adapter = try preparer.map(folder, hash: hash) { return adapter }
    } catch {
      logger.warning("adapter is prepared again", metadata: ["reason": "\(error)"])
    }
    try verify()
    let (adapter, failure) = try preparer.prepare(folder, hash: hash)
    if let failure { logger.warning("adapter is not mapped", metadata: ["reason": "\(failure)"]) }
    return adapter
  }
}
