import Formats
public import Foundation
public import Logging
public import Model
internal import Synchronization

/// The adapters that requests can name: names and versions in the database, contents in the data folder, and as many of
/// them in memory as the budget allows.
///
/// A request keeps the adapters that it got from `acquire` until it ends, even if a name is loaded again, unloaded or
/// removed meanwhile. Registering and removing wait for the disk, so they must not be called on the event loop;
/// `acquire` and the lookups may be called on any thread.
public final class AdapterStore: Sendable {
  /// The store's limits.
  public struct Settings: Sendable {
    /// Maximum bytes of adapters in memory.
    public var memory: Int
    /// How many versions of a name are kept, including the current one.
    public var versionsKept: Int
    /// Maximum bytes of one adapter's files.
    public var sizeLimit: Int
    /// Names of the base, which no adapter can have.
    public var reservedNames: Set<String>
    /// How long a request waits for others to release memory before it is refused.
    public var patience: Duration

    /// - Parameters: as the properties
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

  /// The base that the adapters are for.
  public struct Binding: Sendable {
    /// `nil` where no base is loaded, and adapters are only listed and removed.
    public var fingerprint: String?
    let preparer: (any AdapterPreparing)?

    /// - Parameters:
    ///   - fingerprint: of the base
    ///   - preparer: converts and maps adapters for the base
    public init(fingerprint: String, preparer: any AdapterPreparing) {
      self.fingerprint = fingerprint
      self.preparer = preparer
    }

    /// No base: for commands that only list and remove adapters.
    public static let none = Binding()

    private init() {
      fingerprint = nil
      preparer = nil
    }

    /// Whether a version was registered for this base.
    func fits(_ version: AdapterVersion) -> Bool { fingerprint == nil || fingerprint == version.base }
  }

  struct State {
    var registry: AdapterRegistry
    var cache: AdapterCache
    /// Why contents in the data folder cannot be used, by their hash.
    var damages: [String: AdapterError] = [:]
    /// Requests that wait for adapters, in the order of their arrival.
    var waiters: [AdapterWaiter] = []
    var waiterCount: UInt64 = 0
    /// Contents that are being read, or that wait to be.
    var reading: Set<String> = []
    /// Bytes in memory of contents that were read. They differ from the recorded ones if those are of another compute
    /// mode.
    var sizes: [String: Int] = [:]
    /// Adapters in use whose memory the first waiting request needs. Later requests for these adapters wait until that
    /// request has its memory.
    var obstacles: Set<String> = []
    /// Whether a later look at the waiting requests is scheduled.
    var isTicking = false
  }

  /// The folder that adapters are loaded from by path; `nil` if that is not allowed.
  public let folder: AdapterFolder?
  /// The adapters' files in the data folder.
  public let contents: AdapterContents
  /// The settings that `init` was given.
  public let settings: Settings
  let binding: Binding
  let database: MetadataDatabase
  let state: Mutex<State>
  /// Held while the database and the contents are changed.
  let writing = Mutex(())
  /// Reads contents that requests wait for, one after the other.
  let loader = WorkerPool(label: "adapter loader", threads: 1, niceness: 4)
  let ticker = DispatchQueue(label: "adapters waited for")
  private let dataFolder: DataFolder
  let logger: Logger

  /// Reads the records. No adapter is read into memory; `scan` does that for pinned ones.
  /// - Parameters:
  ///   - folder: where adapters are loaded from by path
  ///   - logger: notes adapters that have to be prepared again, cannot be mapped, or are read in a way that one should know
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
      if !contents.removeLeftovers(of: hash) {
        known.damages[hash] = AdapterError(.damaged, "its stored contents are missing")
      }
      if known.registry.isPinned(hash) { known.cache.setPinned(true, hash) }
    }
    state = Mutex(known)
  }

  /// Maps an adapter's prepared file. If the file is missing or damaged, it is made again from the adapter's PEFT
  /// files.
  /// - Parameter verify: called before that; throws if the PEFT files are damaged
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
