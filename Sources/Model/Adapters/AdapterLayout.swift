import Formats
import Kernels

/// Where an adapter's parts lie in the kernels' layout, in memory as in its prepared file: stack by stack in the order of
/// a forward pass, of each stack its modules' A, then their B, then DoRA's row factors, every part on a cache line.
struct AdapterLayout {
  /// What has to be known of a module beside the base's sizes.
  struct Module: Equatable, Sendable {
    let layer: Int
    let linear: LinearModule
    let rank: Int
    /// α/r, or α/√r for rsLoRA.
    let scale: Float
  }

  /// A module's parts, in bytes from where its stack begins.
  struct Place {
    let module: Module
    /// The module's place among all of the adapter's.
    let index: Int
    let factors: LowRankLayout
    fileprivate(set) var a = 0
    fileprivate(set) var b = 0
    /// `nil` without DoRA.
    fileprivate(set) var rowFactors: Int?
  }

  /// Modules of a layer that a forward pass reads together.
  struct Stack {
    let places: [Place]
    /// Where the stack begins among all of the adapter's bytes, and how many are its own.
    let offset: Int
    let length: Int

    fileprivate init(_ modules: [Place], offset: Int, usesDoRA: Bool) {
      var places = modules
      var end = 0
      func part(_ bytes: Int) -> Int {
        defer { end += LowRankLayout.aligned(bytes) }
        return end
      }
      for i in places.indices { places[i].a = part(places[i].factors.aBytes) }
      for i in places.indices { places[i].b = part(places[i].factors.bBytes) }
      if usesDoRA {
        for i in places.indices { places[i].rowFactors = part(places[i].factors.rowFactorBytes) }
      }
      self.places = places
      self.offset = offset
      length = end
    }

    /// The modules whose parts `convert` has put, or a file has, from `start` on.
    /// - Parameters:
    ///   - start: on a cache line
    ///   - owner: keeps the bytes in place and unchanged
    func modules(
      at start: UnsafeRawPointer, owner: any AnyObject & Sendable
    ) -> [(layer: Int, linear: LinearModule, module: Adapter.Module)] {
      places.map { place in
        let factors = LowRankFactors(
          place.factors, a: start + place.a, b: start + place.b, rowFactors: place.rowFactors.map { start + $0 },
          owner: owner)
        return (place.module.layer, place.module.linear, Adapter.Module(factors: factors, scale: place.module.scale))
      }
    }
  }

  let element: LowRankFactors.Element
  let modules: [Module]
  let stacks: [Stack]
  /// Of all stacks, in bytes.
  var length: Int { stacks.last.map { $0.offset + $0.length } ?? 0 }

  /// - Parameters:
  ///   - modules: in the order of layers, then of `LinearModule.allCases`
  ///   - config: the base's
  init(_ modules: [Module], config: ModelConfig, element: LowRankFactors.Element, usesDoRA: Bool) {
    let places = modules.enumerated().map { index, module in
      let shape = module.linear.shape(config)
      return Place(
        module: module, index: index,
        factors: LowRankLayout(rank: module.rank, columns: shape.input, outputs: shape.output, element: element))
    }
    var stacks: [Stack] = []
    var rest = places[...]
    while let first = rest.first?.module {
      let neighbours = StackedLinear.stacks.first { $0.contains(first.linear) } ?? []
      let stack = rest.prefix { $0.module.layer == first.layer && neighbours.contains($0.module.linear) }
      let offset = stacks.last.map { $0.offset + $0.length } ?? 0
      stacks.append(Stack(Array(stack), offset: offset, usesDoRA: usesDoRA))
      rest = rest.dropFirst(stack.count)
    }
    self.element = element
    self.modules = modules
    self.stacks = stacks
  }
}
