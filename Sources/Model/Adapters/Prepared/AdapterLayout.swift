import Formats
import Kernels

/// Where an adapter's numbers lie, in memory as in its prepared file: stack by stack in the order of a forward pass; in
/// each stack the A of its projections, then their B, then DoRA's row factors. Every part begins on a cache line.
struct AdapterLayout {
  /// What the layout of an update depends on, beside the base's sizes.
  struct Entry: Equatable, Sendable {
    let layer: Int
    let projection: Projection
    let rank: Int
    /// α/r, or α/√r for rsLoRA.
    let scale: Float
  }

  /// The parts of one update; offsets are in bytes from the beginning of its stack.
  struct UpdateParts {
    let entry: Entry
    /// The update's index among all of the adapter's.
    let index: Int
    let factors: LowRankLayout
    fileprivate(set) var a = 0
    fileprivate(set) var b = 0
    /// `nil` without DoRA.
    fileprivate(set) var rowFactors: Int?
  }

  /// The updates of a layer's `ProjectionStack`, which a forward pass reads together.
  struct Stack {
    let parts: [UpdateParts]
    /// Where the stack begins among all of the adapter's bytes.
    let offset: Int
    /// In bytes.
    let length: Int

    fileprivate init(_ updates: [UpdateParts], offset: Int, usesDoRA: Bool) {
      var parts = updates
      var end = 0
      func reserve(_ bytes: Int) -> Int {
        defer { end += LowRankLayout.aligned(bytes) }
        return end
      }
      for i in parts.indices { parts[i].a = reserve(parts[i].factors.aBytes) }
      for i in parts.indices { parts[i].b = reserve(parts[i].factors.bBytes) }
      if usesDoRA {
        for i in parts.indices { parts[i].rowFactors = reserve(parts[i].factors.rowFactorBytes) }
      }
      self.parts = parts
      self.offset = offset
      length = end
    }

    /// The updates that lie from `start` on, written by `AdapterConverter.convert` or mapped from a file.
    /// - Parameters:
    ///   - start: on a cache line
    ///   - owner: keeps the bytes in place and unchanged
    func updates(
      at start: UnsafeRawPointer, owner: any AnyObject & Sendable
    ) -> [(layer: Int, projection: Projection, update: Adapter.Update)] {
      parts.map { part in
        let factors = LowRankFactors(
          part.factors, a: start + part.a, b: start + part.b, rowFactors: part.rowFactors.map { start + $0 },
          owner: owner)
        return (part.entry.layer, part.entry.projection, Adapter.Update(factors: factors, scale: part.entry.scale))
      }
    }
  }

  let element: LowRankFactors.Element
  let entries: [Entry]
  let stacks: [Stack]
  /// Bytes of all stacks.
  var length: Int { stacks.last.map { $0.offset + $0.length } ?? 0 }

  /// - Parameters:
  ///   - entries: in the order of layers, then of `ModelConfig.projections`
  ///   - config: the base's
  init(_ entries: [Entry], config: ModelConfig, element: LowRankFactors.Element, usesDoRA: Bool) {
    let updates = entries.enumerated().map { index, entry in
      let shape = entry.projection.shape(config)
      return UpdateParts(
        entry: entry, index: index,
        factors: LowRankLayout(rank: entry.rank, columns: shape.input, outputs: shape.output, element: element))
    }
    var stacks: [Stack] = []
    var rest = updates[...]
    while let first = rest.first?.entry {
      let together = rest.prefix {
        $0.entry.layer == first.layer && $0.entry.projection.stack == first.projection.stack
      }
      let offset = stacks.last.map { $0.offset + $0.length } ?? 0
      stacks.append(Stack(Array(together), offset: offset, usesDoRA: usesDoRA))
      rest = rest.dropFirst(together.count)
    }
    self.element = element
    self.entries = entries
    self.stacks = stacks
  }
}
