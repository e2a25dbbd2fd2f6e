/// The weights that a sequence's keys and values were computed with. Only sequences with equal keys share prefixes.
///
/// Adapters are compared by the hash of their contents and the exact bits of their weights, never by name.
public struct PrefixKey: Sendable, Hashable {
  private struct Term: Sendable, Hashable {
    var contentHash: String
    var weightBits: UInt32
  }

  private let terms: [Term]
  private let group: UInt64?

  /// - Parameters:
  ///   - adapters: of the request
  ///   - group: restricts sharing to the sequences of this group; `nil` for sequences that share with all others
  ///     without a group
  public init(_ adapters: AdapterSet, group: UInt64? = nil) {
    terms = adapters.terms.map { Term(contentHash: $0.adapter.contentHash, weightBits: $0.weight.bitPattern) }
    self.group = group
  }
}
