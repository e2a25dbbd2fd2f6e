internal import Model
internal import Synchronization

/// What the store has, for lists and checks.
extension AdapterStore {
  /// The record that a request would find.
  public subscript(name: String) -> AdapterRecord? {
    state.withLock { state in
      guard let record = state.registry[name], state.registry.isServed(record) else { return nil }
      return record
    }
  }

  /// All adapters that requests find, in the order of their names. Not for the event loop: there may be many.
  public var served: [AdapterRecord] { served(after: nil, limit: nil).elements }

  /// A page of the adapters that requests find, in the order of their names.
  /// - Parameters:
  ///   - after: the page begins with the first name after this one
  ///   - limit: maximum adapters; `nil` for all, which is not for the event loop
  ///   - filter: whether the adapter with a name belongs to the list
  func served(
    after: String?, limit: Int?, where filter: (String) -> Bool = { _ in true }
  ) -> Page<AdapterRecord> {
    page(\.servedNames, after: after, limit: limit) { name, state in filter(name) ? state.registry[name] : nil }
  }

  /// Some names that requests can use, for messages: adapters, then models that jobs trained, then jobs' checkpoints.
  /// Quick even if there are many.
  func someNames(limit: Int) -> (names: [String], hasMore: Bool) {
    let prefix = FineTuningNames.prefix
    let (others, trained) = state.withLock { state in
      let names = state.registry.servedNames
      let before = names.page(after: nil, limit: limit + 1).prefix { $0 < prefix }
      // No allowed character sorts between the prefix's colon and this.
      let after = names.page(after: prefix + "~", limit: limit + 1)
      let trained = names.page(after: prefix, limit: max(Self.batch, limit + 1)).prefix { $0.hasPrefix(prefix) }
      return (before + after, trained)
    }
    let names =
      others + trained.filter { !FineTuningNames.isCheckpoint($0) } + trained.filter(FineTuningNames.isCheckpoint)
    return (Array(names.prefix(limit)), names.count > limit)
  }

  /// All names that have versions or were refused, in order. Not for the event loop: there may be many.
  public var listings: [AdapterListing] { listings(after: nil, limit: nil).elements }

  /// A page of the names that have versions or were refused; see `served`.
  func listings(after: String?, limit: Int?) -> Page<AdapterListing> {
    page(\.names, after: after, limit: limit) { listing($0, $1) }
  }

  /// A name with its state; `nil` where it has no versions and was not refused.
  public func listing(_ name: String) -> AdapterListing? { state.withLock { listing(name, $0) } }

  /// Whether a name has or had versions, or was refused.
  func knows(_ name: String) -> Bool {
    state.withLock { $0.registry[name] != nil || $0.registry.refusal(of: name) != nil }
  }

  /// Bytes and number of the adapters in memory, including those that only running requests keep.
  public var memoryInUse: (bytes: Int, count: Int) { state.withLock { ($0.cache.bytes, $0.cache.count) } }

  /// How many names are read under the lock at once, so that others get it in between.
  private static let batch = 512

  private func page<Element>(
    _ list: KeyPath<AdapterRegistry, SortedNames>, after: String?, limit: Int?, _ make: (String, State) -> Element?
  ) -> Page<Element> {
    let limit = limit ?? .max
    var (elements, cursor): ([Element], String?) = ([], after)
    while true {
      let names = state.withLock { state in
        let names = state.registry[keyPath: list].page(after: cursor, limit: Self.batch)
        for name in names where elements.count <= limit {
          if let element = make(name, state) { elements.append(element) }
        }
        return names
      }
      if elements.count > limit { return Page(elements: Array(elements.prefix(limit)), hasMore: true) }
      guard names.count == Self.batch, let last = names.last else { return Page(elements: elements, hasMore: false) }
      cursor = last
    }
  }

  private func listing(_ name: String, _ state: State) -> AdapterListing? {
    guard let record = state.registry[name], !record.versions.isEmpty else {
      return state.registry.refusal(of: name).map {
        AdapterListing(
          record: AdapterRecord(
            name: name, versions: [], currentNumber: nil, lastNumber: 0, isLoaded: false, isPinned: false),
          state: .refused($0), versionStates: [:], warning: nil)
      }
    }
    var states: [Int: AdapterState] = [:]
    for version in record.versions {
      states[version.number] =
        if let error = state.damages[version.contentHash] {
          .refused(error)
        } else if !binding.fits(version) {
          .incompatible(reason: Self.incompatibility(version))
        } else if !record.isLoaded {
          .unloaded
        } else {
          state.cache.contains(version.contentHash) ? .loaded : .onDisk
        }
    }
    let current = record.current.flatMap { states[$0.number] }
    return AdapterListing(
      record: record,
      state: current
        ?? .refused(AdapterError(.damaged, "the record of its current version was lost; load it again")),
      versionStates: states, warning: warning(name))
  }

  /// What is wrong with a name that was registered under earlier rules for names.
  private func warning(_ name: String) -> String? {
    if settings.reservedNames.contains(name) { return "requests cannot use it: the name means the base" }
    return AdapterName.problem(name).map {
      "the name is not allowed any more (\($0)); it stays usable, and its contents can be loaded under another"
    }
  }

  /// Why a version for another base cannot be used.
  static func incompatibility(_ version: AdapterVersion) -> String {
    "it was registered for another base (\(version.base.prefix(16))…)"
  }
}
