import Formats
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
    var registry: AdapterRegistry
    var cache: AdapterCache
    /// Why contents in the data folder cannot be used, by their hash.
    var damages: [String: String] = [:]
    /// Who waits for adapters, in the order of coming.
    var waiters: [AdapterWaiter] = []
    var waiterCount: UInt64 = 0
    /// Contents that are being read, or will be.
    var reading: Set<String> = []
    /// Bytes in memory of contents that were read, which may not be those recorded for another compute mode.
    var sizes: [String: Int] = [:]
    /// Adapters in use that take the memory that the first of those who wait needs: who asks for one comes after it.
    var obstacles: Set<String> = []
    var isTicking = false
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
  let loader = WorkerPool(label: "adapter loader", threads: 1, niceness: 4)
  let ticker = DispatchQueue(label: "adapters waited for")
  private let dataFolder: DataFolder
  private let logger: Logger

  /// Reads what is known. Nothing is loaded yet: `scan` does that.
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
    contents.removeUnfinished()
    var known = State(
      registry: AdapterRegistry(records, binding: binding), cache: AdapterCache(budget: settings.memory))
    for hash in known.registry.hashes {
      if !contents.removeLeftovers(of: hash) { known.damages[hash] = "its stored contents are missing" }
      if known.registry.isPinned(hash) { known.cache.pin(hash, true) }
    }
    state = Mutex(known)
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
