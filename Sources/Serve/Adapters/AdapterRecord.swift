public import Model

/// One version of an adapter. It does not change after its registration.
public struct AdapterVersion: Sendable, Equatable {
  /// Counted from 1 for each name. The number of a removed version is not used again.
  public var number: Int
  /// `AdapterContents`' hash of its files.
  public var contentHash: String
  /// The fingerprint of the base it was registered for.
  public var base: String
  /// The largest rank of any module.
  public var rank: Int
  /// Short names of the modules, in the order of a forward pass.
  public var targets: [String]
  /// Bytes in memory, in the compute mode that it was registered in.
  public var memoryBytes: Int
  /// Bytes of its files.
  public var fileBytes: Int
  /// Seconds since 1970.
  public var createdAt: Int
  /// The folder that it was loaded from; `nil` for an uploaded or a trained adapter.
  public var source: String?
}

/// An adapter's name with its versions.
public struct AdapterRecord: Sendable, Equatable {
  /// What requests call the adapter.
  public var name: String
  /// In the order of their numbers. The oldest are removed when there are too many.
  public var versions: [AdapterVersion]
  /// The version for requests that name none; `nil` after all versions were removed.
  public var currentNumber: Int?
  /// The highest number that any version has had.
  public var lastNumber: Int
  /// Whether requests can use the name: false after it was unloaded.
  public var isLoaded: Bool
  /// Whether it is never evicted from memory.
  public var isPinned: Bool

  /// The version for requests that name none.
  public var current: AdapterVersion? { currentNumber.flatMap(version) }

  /// Whether the database should have a current version and has none. A name whose versions were deleted has no current
  /// version either, but nothing was lost.
  var hasLostItsCurrentVersion: Bool {
    let isDeleted = versions.isEmpty && !isLoaded && lastNumber > 0
    return current == nil && !isDeleted
  }

  /// The version with a number, if there is one.
  public func version(_ number: Int) -> AdapterVersion? { versions.first { $0.number == number } }
}

/// An adapter as a request names it.
public struct AdapterReference: Sendable, Equatable {
  /// The adapter's name.
  public var name: String
  /// `nil` for the current version.
  public var version: Int?

  /// - Parameters: as the properties
  public init(name: String, version: Int? = nil) {
    self.name = name
    self.version = version
  }
}

/// Where an adapter's contents are, or why requests cannot use it.
public enum AdapterState: Sendable, Equatable {
  /// In memory.
  case loaded
  /// In the data folder; read into memory for the next request.
  case onDisk
  /// Requests do not find it until it is loaded again.
  case unloaded
  /// It was registered for another base.
  case incompatible(reason: String)
  /// It could not be registered, or its contents are damaged.
  case refused(AdapterError)
}

/// An adapter with its present state.
public struct AdapterListing: Sendable {
  /// The name with its versions; without any for a folder that was refused.
  public var record: AdapterRecord
  /// The current version's state.
  public var state: AdapterState
  /// The state of each version, by its number.
  public var versionStates: [Int: AdapterState]
  /// A problem with the name that does not prevent its use; `nil` for none.
  public var warning: String?
}
