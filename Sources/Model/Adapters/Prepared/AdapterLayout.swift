import Formats
import Kernels

/// Where an adapter's numbers lie, in memory as in its prepared file: stack by stack in the order of a forward pass; in
/// each stack the A of its projections, then their B, then DoRA's row factors, then biases and changes of inputs. Norms,
/// embedding and head follow the stacks (`OtherLayout`). Every part begins on a cache line.
struct AdapterLayout {
  /// What an update has beside A and B.
  struct Extras: OptionSet, Sendable {
    let rawValue: Int

    /// A factor for each output, of DoRA or IA3. `usesDoRA` gives it to all updates of projections.
    static let rowFactors = Extras(rawValue: 1)
    static let bias = Extras(rawValue: 2)
    static let inputChanges = Extras(rawValue: 4)
    /// A and B are zeros of rank 1.
    static let noFactors = Extras(rawValue: 8)
    static let all: Extras = [.rowFactors, .bias, .inputChanges, .noFactors]
  }

  /// What the layout of an update depends on, beside the base's sizes.
  struct Entry: Equatable, Sendable {
    let layer: Int
    let projection: Projection
    let rank: Int
    /// α/r, or α/√r for rsLoRA.
    let scale: Float
    var extras: Extras = []
  }

  /// The parts of one update; offsets are in bytes from the beginning of its stack.
  struct UpdateParts {
    let entry: Entry
    /// The update's index among all of the adapter's.
    let index: Int
    let parts: FactorParts
    var factors: LowRankLayout { parts.factors }
  }

  /// Where the parts of one module's update lie; offsets are in bytes.
  struct FactorParts {
    let factors: LowRankLayout
    let extras: Extras
    fileprivate(set) var a = 0
    fileprivate(set) var b = 0
    /// `nil` without DoRA.
    fileprivate(set) var rowFactors: Int?
    fileprivate(set) var bias: Int?
    fileprivate(set) var inputChanges: Int?

    init(_ factors: LowRankLayout, extras: Extras) {
      self.factors = factors
      self.extras = extras
    }

    /// The parts of several updates, first all A, then all B, and so on.
    /// - Returns: their length
    static func place(_ parts: inout [FactorParts]) -> Int {
      var end = 0
      func reserve(_ bytes: Int) -> Int {
        defer { end += LowRankLayout.aligned(bytes) }
        return end
      }
      for i in parts.indices { parts[i].a = reserve(parts[i].factors.aBytes) }
      for i in parts.indices { parts[i].b = reserve(parts[i].factors.bBytes) }
      for i in parts.indices where parts[i].extras.contains(.rowFactors) {
        parts[i].rowFactors = reserve(parts[i].factors.rowFactorBytes)
      }
      for i in parts.indices where parts[i].extras.contains(.bias) {
        parts[i].bias = reserve(parts[i].factors.biasBytes)
      }
      for i in parts.indices where parts[i].extras.contains(.inputChanges) {
        parts[i].inputChanges = reserve(parts[i].factors.inputChangeBytes)
      }
      return end
    }

    /// - Parameters:
    ///   - start: where the offsets are counted from, on a cache line
    ///   - owner: keeps the bytes in place and unchanged
    func update(at start: UnsafeRawPointer, scale: Float, owner: any AnyObject & Sendable) -> Adapter.Update {
      let factors = LowRankFactors(
        factors, a: start + a, b: start + b, rowFactors: rowFactors.map { start + $0 }, bias: bias.map { start + $0 },
        inputChanges: inputChanges.map { start + $0 }, owner: owner)
      return Adapter.Update(factors: factors, scale: scale, hasFactors: !extras.contains(.noFactors))
    }
  }

  /// The updates of a layer's `ProjectionStack`, which a forward pass reads together.
  struct Stack {
    let parts: [UpdateParts]
    /// Where the stack begins among all of the adapter's bytes.
    let offset: Int
    /// In bytes.
    let length: Int

    fileprivate init(_ updates: [UpdateParts], offset: Int) {
      var placed = updates.map(\.parts)
      length = FactorParts.place(&placed)
      parts = zip(updates, placed).map { UpdateParts(entry: $0.entry, index: $0.index, parts: $1) }
      self.offset = offset
    }

    /// The updates that lie from `start` on, written by `AdapterConverter.convert` or mapped from a file.
    /// - Parameters:
    ///   - start: on a cache line
    ///   - owner: keeps the bytes in place and unchanged
    func updates(
      at start: UnsafeRawPointer, owner: any AnyObject & Sendable
    ) -> [(layer: Int, projection: Projection, update: Adapter.Update)] {
      parts.map { part in
        let update = part.parts.update(at: start, scale: part.entry.scale, owner: owner)
        return (part.entry.layer, part.entry.projection, update)
      }
    }
  }

  let element: LowRankFactors.Element
  let entries: [Entry]
  let stacks: [Stack]
  /// What follows the stacks.
  let others: OtherLayout?
  /// Bytes of all stacks.
  var stackLength: Int { stacks.last.map { $0.offset + $0.length } ?? 0 }
  /// Bytes of all parts.
  var length: Int { stackLength + (others?.length ?? 0) }

  /// - Parameters:
  ///   - entries: in the order of layers, then of `ModelConfig.projections`
  ///   - others: norms, embedding and head, if the adapter changes them
  ///   - config: the base's
  init(
    _ entries: [Entry], others: OtherEntries? = nil, config: ModelConfig, element: LowRankFactors.Element,
    usesDoRA: Bool
  ) {
    let updates = entries.enumerated().map { index, entry in
      let shape = entry.projection.shape(config)
      let factors = LowRankLayout(rank: entry.rank, columns: shape.input, outputs: shape.output, element: element)
      let extras = usesDoRA ? entry.extras.union(.rowFactors) : entry.extras
      return UpdateParts(entry: entry, index: index, parts: FactorParts(factors, extras: extras))
    }
    var stacks: [Stack] = []
    var rest = updates[...]
    while let first = rest.first?.entry {
      let together = rest.prefix {
        $0.entry.layer == first.layer && $0.entry.projection.stack == first.projection.stack
      }
      let offset = stacks.last.map { $0.offset + $0.length } ?? 0
      stacks.append(Stack(Array(together), offset: offset))
      rest = rest.dropFirst(together.count)
    }
    self.element = element
    self.entries = entries
    self.stacks = stacks
    self.others = others.map { OtherLayout($0, config: config, element: element) }
  }
}
