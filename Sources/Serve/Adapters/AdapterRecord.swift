/// One version of an adapter: never changed once it was registered.
public struct AdapterVersion: Sendable, Equatable {
  /// From 1 for each name; a number that was given is never given again.
  public var number: Int
  /// `AdapterContents`' hash of its files.
  public var contentHash: String
  /// The fingerprint of the base it was registered for.
  public var base: String
  /// The largest rank of any module.
  public var rank: Int
  /// Short names of the modules, in the order of a forward pass.
  public var targets: [String]
  /// In memory, as it was when it was registered.
  public var memoryBytes: Int
  public var fileBytes: Int
  /// Seconds since 1970.
  public var createdAt: Int
  /// The folder it came from; `nil` for an upload.
  public var source: String?
}

/// What is known of a name.
public struct AdapterRecord: Sendable, Equatable {
  public var name: String
  /// By rising number; old ones are dropped in time.
  public var versions: [AdapterVersion]
  /// What the bare name means; `nil` once all versions were removed.
  public var currentNumber: Int?
  /// The highest number that was ever given.
  public var lastNumber: Int
  /// False once it was unloaded: requests do not find it then.
  public var isLoaded: Bool
  /// Never leaves the memory.
  public var isPinned: Bool

  public var current: AdapterVersion? { currentNumber.flatMap(version) }

  /// Whether the database has lost what the name stands for, or never had it. A name whose versions were deleted has
  /// no current version either, and has lost nothing.
  var hasLostItsCurrentVersion: Bool {
    let isDeleted = versions.isEmpty && !isLoaded && lastNumber > 0
    return current == nil && !isDeleted
  }

  public func version(_ number: Int) -> AdapterVersion? { versions.first { $0.number == number } }
}

/// An adapter as a request names it.
public struct AdapterReference: Sendable, Equatable {
  public var name: String
  /// `nil` for the current one.
  public var version: Int?

  public init(name: String, version: Int? = nil) {
    self.name = name
    self.version = version
  }
}

/// Where an adapter's contents are, and what keeps it from being used.
public enum AdapterState: Sendable, Equatable {
  case loaded
  case onDisk
  case unloaded
  case incompatible(reason: String)
  case refused(reason: String)
}

/// What the store tells of a name.
public struct AdapterListing: Sendable {
  public var record: AdapterRecord
  /// The current version's.
  public var state: AdapterState
  public var versionStates: [Int: AdapterState]
  /// What is wrong with the name though it can be used; `nil` for nothing.
  public var warning: String?
}
