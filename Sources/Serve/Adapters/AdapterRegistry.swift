import Model

/// The records of all names, and indices over them, so that neither a request nor a registration searches all records. A
/// value without threads or files.
struct AdapterRegistry {
  /// How many versions and names refer to the same contents.
  private struct Uses {
    /// Versions, whether their names are loaded or not.
    var versions = 0
    /// Versions of names that are loaded.
    var loadedVersions = 0
    /// Loaded names whose current version it is.
    var current = 0
    /// Served and pinned names whose current version it is.
    var pins = 0
    /// Bytes in memory of the contents while they are pinned.
    var pinnedBytes = 0
  }

  private let binding: AdapterStore.Binding
  private var records: [String: AdapterRecord] = [:]
  private var uses: [String: Uses] = [:]
  /// Why a folder among the adapters' folders was refused, by its name.
  private var refusals: [String: AdapterError] = [:]
  /// Names that have versions, or were refused.
  private(set) var names = SortedNames()
  /// Names that requests find.
  private(set) var servedNames = SortedNames()
  /// Bytes in memory of all pinned contents. Contents with several names count once.
  private var pinnedBytes = 0

  init(_ records: [AdapterRecord], binding: AdapterStore.Binding) {
    self.binding = binding
    for record in records { _ = set(record) }
  }

  var isEmpty: Bool { records.isEmpty }

  /// The contents of all versions.
  var hashes: [String] { Array(uses.keys) }

  /// All names that have or had versions, in no order.
  var allNames: [String] { Array(records.keys) }

  subscript(name: String) -> AdapterRecord? { records[name] }

  /// Whether requests find the name.
  func isServed(_ record: AdapterRecord) -> Bool { record.isLoaded && record.current.map(binding.fits) == true }

  /// Whether the contents are the current version of a loaded name.
  func isCurrent(_ hash: String) -> Bool { (uses[hash]?.current ?? 0) > 0 }

  /// Whether the contents are any version of a loaded name.
  func isNameable(_ hash: String) -> Bool { (uses[hash]?.loadedVersions ?? 0) > 0 }

  /// Whether the contents must not be evicted from memory.
  func isPinned(_ hash: String) -> Bool { (uses[hash]?.pins ?? 0) > 0 }

  /// Why the folder of a name was refused, if it was.
  func refusal(of name: String) -> AdapterError? { refusals[name] }

  /// Notes why the folder of a name was refused; `nil`: it was not.
  mutating func refuse(_ name: String, _ error: AdapterError?) {
    refusals[name] = error
    index(name)
  }

  /// Bytes in memory of all pinned contents, without `hash` and without contents that only `name` pins.
  func pinnedBytes(besides name: String, _ hash: String) -> Int {
    var bytes = pinnedBytes
    if let use = uses[hash], use.pins > 0 { bytes -= use.pinnedBytes }
    if let own = records[name].flatMap(pinnedHash), own != hash, let use = uses[own], use.pins == 1 {
      bytes -= use.pinnedBytes
    }
    return bytes
  }

  /// Replaces the record of a name.
  /// - Returns: contents of the former record that no version has any more
  mutating func set(_ record: AdapterRecord) -> Set<String> {
    let old = records[record.name]
    if let old { count(old, -1) }
    records[record.name] = record
    count(record, 1)
    index(record.name)
    let hashes = Set((old?.versions ?? []).map(\.contentHash))
    return hashes.filter { uses[$0] == nil }
  }

  private mutating func index(_ name: String) {
    let isListed = records[name]?.versions.isEmpty == false || refusals[name] != nil
    if isListed { names.insert(name) } else { names.remove(name) }
    if records[name].map(isServed) == true { servedNames.insert(name) } else { servedNames.remove(name) }
  }

  /// Counts what a record refers to.
  /// - Parameter change: 1 for a new record, -1 for the one it replaces
  private mutating func count(_ record: AdapterRecord, _ change: Int) {
    for version in record.versions {
      uses[version.contentHash, default: Uses()].versions += change
      if record.isLoaded { uses[version.contentHash]?.loadedVersions += change }
    }
    if record.isLoaded, let current = record.current {
      uses[current.contentHash]?.current += change
      if record.isPinned, isServed(record) { pin(current, change) }
    }
    for version in record.versions where uses[version.contentHash]?.versions == 0 {
      uses[version.contentHash] = nil
    }
  }

  private mutating func pin(_ version: AdapterVersion, _ change: Int) {
    guard var use = uses[version.contentHash] else { return }
    if use.pins == 0 { use.pinnedBytes = version.memoryBytes }
    let before = use.pins > 0 ? use.pinnedBytes : 0
    use.pins += change
    pinnedBytes += (use.pins > 0 ? use.pinnedBytes : 0) - before
    uses[version.contentHash] = use
  }

  private func pinnedHash(_ record: AdapterRecord) -> String? {
    record.isPinned && isServed(record) ? record.current?.contentHash : nil
  }
}
