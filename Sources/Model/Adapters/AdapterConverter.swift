import Foundation
import Kernels

/// Reads a PEFT folder, whole or not at all, and lays it out stack by stack as the kernels want it; DoRA's row norms are
/// taken of the base.
///
/// No more than one module of it is in memory in f32. Takes a pass over the base's weights for DoRA, and runs on the
/// caller's thread alone.
struct AdapterConverter {
  let layout: AdapterLayout
  var usesDoRA: Bool { reader.peft.usesDoRA }
  private let reader: PEFTReader
  private let base: Base
  private let compute = Compute(pool: ThreadPool(threads: 1), mode: .f32)

  /// - Throws: `ModelError` naming the field or tensor that is wrong or not supported
  init(peft folder: URL, base: Base, element: LowRankFactors.Element) throws {
    let reader = try PEFTReader(folder: folder, config: base.config, base: base)
    let modules = try reader.targets.map {
      AdapterLayout.Module(layer: $0.layer, linear: $0.linear, rank: $0.rank, scale: try reader.scale($0))
    }
    layout = AdapterLayout(modules, config: base.config, element: element, usesDoRA: reader.peft.usesDoRA)
    self.reader = reader
    self.base = base
  }

  /// Puts a stack's parts where they belong.
  /// - Parameter memory: `stack.length` zeros on a cache line
  /// - Throws: `ModelError` naming the tensor that is wrong
  func convert(_ stack: AdapterLayout.Stack, into memory: UnsafeMutableRawPointer) throws {
    for place in stack.places {
      let target = reader.targets[place.index]
      let module = try reader.module(target)
      try checkRange(module, target)
      place.factors.packA(module.a, into: memory + place.a)
      place.factors.packB(module.b, into: memory + place.b)
      if let offset = place.rowFactors, let magnitude = module.magnitude {
        let factors = rowFactors(module, magnitude)
        guard Compute.allMagnitudes(of: factors, count: factors.count, areAtMost: .greatestFiniteMagnitude) else {
          throw reader.failure(target, "its magnitudes are too large for the base's rows")
        }
        place.factors.packRowFactors(factors, into: memory + offset)
      }
    }
  }

  /// Rounded to bf16, the largest numbers of f32 become infinite.
  private func checkRange(_ module: PEFTAdapter.Module, _ target: PEFTModules.Target) throws {
    guard layout.element == .bf16 else { return }
    let largest = Float(bitPattern: 0x7F7F_7FFF)
    for values in [module.a, module.b] where !Compute.allMagnitudes(of: values, count: values.count, areAtMost: largest)
    {
      throw reader.failure(target, "its values are too large for bf16")
    }
  }

  private func rowFactors(_ module: PEFTAdapter.Module, _ magnitude: [Float]) -> [Float] {
    let (matrix, first) = base.matrix(module.linear, layer: module.layer)
    return compute.rowFactors(
      matrix, rows: first..<first + magnitude.count, a: module.a, b: module.b, rank: module.rank, scale: module.scale,
      magnitude: magnitude)
  }
}
