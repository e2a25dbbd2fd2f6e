/// What is known of every name, with what has to be found in it kept beside it, so that no request and no registration
/// looks through all of it: a value without threads or files.
struct AdapterRegistry {
  /// How often contents are meant.
  private struct Uses {
    /// By versions, whether their names are loaded or not.
    var versions = 0
    /// By versions of names that are loaded.
    var loadedVersions = 0
    /// By names that are loaded, as their current version.
    var current = 0
    /// By names of those that are pinned and served.
    var pins = 0
    /// In memory, of what is pinned.
    var pinnedBytes = 0
  }

  private let binding: AdapterStore.Binding
  private var records: [String: AdapterRecord] = [:]
  private var uses: [String: Uses] = [:]
  /// Why a folder under `--adapters` was refused, by its name.
  private var refusals: [String: String] = [:]
  /// Names that have versions, or were refused.
  private(set) var names = SortedNames()
  /// Those that requests find.
  private(set) var servedNames = SortedNames()
  /// Bytes in memory of all that is pinned, contents counted once.
  private var pinnedBytes = 0

  init(_ records: [AdapterRecord], binding: AdapterStore.Binding) {
    self.binding = binding
    for record in records { _ = set(record) }
  }

  var isEmpty: Bool { records.isEmpty }

  /// All contents that some version has.
  var hashes: [String] { Array(uses.keys) }

  /// Names that were ever known, in no order.
  var allNames: [String] { Array(records.keys) }

  subscript(name: String) -> AdapterRecord? { records[name] }

  func isServed(_ record: AdapterRecord) -> Bool { record.isLoaded && record.current.map(binding.fits) == true }

  /// Whether some name that is loaded means these contents.
  func isWanted(_ hash: String) -> Bool { (uses[hash]?.current ?? 0) > 0 }

  /// Whether requests can name these contents, by some version.
  func isNameable(_ hash: String) -> Bool { (uses[hash]?.loadedVersions ?? 0) > 0 }

  func isPinned(_ hash: String) -> Bool { (uses[hash]?.pins ?? 0) > 0 }

  func refusal(of name: String) -> String? { refusals[name] }

  mutating func refuse(_ name: String, reason: String?) {
    refusals[name] = reason
    index(name)
  }

  /// Bytes in memory of what is pinned, without `hash` and without what `name` alone pins.
  func pinnedBytes(besides name: String, _ hash: String) -> Int {
    var bytes = pinnedBytes
    if let use = uses[hash], use.pins > 0 { bytes -= use.pinnedBytes }
    if let own = records[name].flatMap(pinnedHash), own != hash, let use = uses[own], use.pins == 1 {
      bytes -= use.pinnedBytes
    }
    return bytes
  }

  /// Puts a record in the place of the one of its name.
  /// - Returns: contents that the one before had and no version has now
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

  /// - Parameter change: 1 for a record that comes, -1 for one that goes
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
