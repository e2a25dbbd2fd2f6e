import Foundation
import Formats
public import Model
internal import Synchronization

/// Sets of adapters under a name of their own.
extension AdapterStore {
  /// Registers the weighted sum of several adapters as an adapter: a new version of the name, made of the versions that its
  /// members have now.
  /// - Parameters:
  ///   - members: two or more, or one with a weight
  ///   - pinned: whether the adapter is never evicted from memory; `nil` leaves that as it was
  /// - Throws: `AdapterError`, with nothing changed: for a member that does not exist, that is the name itself, or that
  ///   cannot be combined
  @discardableResult
  public func combine(
    name: String, _ members: [(reference: AdapterReference, weight: Float)], _ combination: WeightedSum.Combination,
    pinned: Bool? = nil
  ) throws(AdapterError) -> AdapterRecord {
    try check(name: name)
    guard let base = binding.preparer?.base else {
      throw AdapterError(.refused, "adapters cannot be combined without a base")
    }
    return try exclusively { () throws(AdapterError) in
      var found: [(version: AdapterVersion, label: String, weight: Float)] = []
      for (reference, weight) in members {
        guard reference.name != name else {
          throw AdapterError(.refused, "adapter '\(name)': a set cannot be a member of itself")
        }
        let version = try state.withLock { state throws(AdapterError) in try self.version(reference, state) }
        guard contents.isIntact(version.contentHash) else {
          throw AdapterError(.damaged, "adapter '\(reference.name)': its stored contents are damaged")
        }
        found.append((version, "\(reference.name)@\(version.number)", weight))
      }
      // The order in which a recipe names its members changes no bit of the sum.
      found.sort { ($0.version.contentHash, $0.weight) < ($1.version.contentHash, $1.weight) }
      let staging: URL
      do { staging = try contents.makeStaging() } catch {
        throw AdapterError(.storage, "the adapter cannot be stored: \(error)")
      }
      defer { contents.discard(staging) }
      let sum = found.map { member in
        WeightedSum.Member(
          label: member.label, folder: contents.location(member.version.contentHash), weight: member.weight)
      }
      do { try WeightedSum.write(sum, combination, to: staging, base: base) } catch {
        throw AdapterError(.refused, "adapter '\(name)': \(error)")
      }
      let recipe = found.map { "\($0.label):\($0.weight)" }.joined(separator: ",")
      return try register(name, staging, origin: "\(recipe) (\(combination.rawValue))", pinned: pinned)
    }
  }
}
