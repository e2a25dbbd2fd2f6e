import Formats
import Foundation
import Kernels

/// Reads a PEFT folder, whole or not at all, and writes its tensors in the kernels' layout, stack by stack. DoRA's row
/// factors are computed from the base's weights.
///
/// Only one update of the adapter is in memory in f32 at a time. The conversion runs on the caller's thread alone; for
/// DoRA it reads the base's weights once.
struct AdapterConverter {
  let layout: AdapterLayout
  var usesDoRA: Bool { reader.peft.usesDoRA }
  private let reader: PEFTReader
  private let base: Base
  private let compute = Compute(pool: ThreadPool(threads: 1), mode: .f32)

  /// - Parameter element: the number format of the converted factors
  /// - Throws: `ModelError` naming the field or tensor that is wrong or not supported
  init(peft folder: URL, base: Base, element: LowRankFactors.Element) throws {
    let reader = try PEFTReader(folder: folder, config: base.config, base: base)
    let entries = reader.projections.map {
      AdapterLayout.Entry(layer: $0.layer, projection: $0.projection, rank: $0.rank, scale: $0.scale)
    }
    layout = AdapterLayout(entries, config: base.config, element: element, usesDoRA: reader.peft.usesDoRA)
    self.reader = reader
    self.base = base
  }

  /// Reads a stack's updates and writes their parts.
  /// - Parameter memory: `stack.length` zero bytes on a cache line
  /// - Throws: `ModelError` naming the tensor that is wrong
  func convert(_ stack: AdapterLayout.Stack, into memory: UnsafeMutableRawPointer) throws {
    for part in stack.parts {
      let target = reader.projections[part.index]
      let update = try reader.update(target)
      try checkRange(update, target)
      part.factors.packA(update.a, into: memory + part.a)
      part.factors.packB(update.b, into: memory + part.b)
      if let offset = part.rowFactors, let magnitude = update.magnitude {
        let factors = rowFactors(update, magnitude)
        guard Compute.allMagnitudes(of: factors, count: factors.count, areAtMost: .greatestFiniteMagnitude) else {
          throw reader.failure(target, "its magnitudes are too large for the base's rows")
        }
        part.factors.packRowFactors(factors, into: memory + offset)
      }
    }
  }

  /// Rounding to bf16 would make the largest numbers of f32 infinite.
  private func checkRange(_ update: PEFTAdapter.Update, _ target: TargetedProjection) throws {
    guard layout.element == .bf16 else { return }
    let largest = Float(bitPattern: 0x7F7F_7FFF)
    for values in [update.a, update.b]
    where !Compute.allMagnitudes(of: values, count: values.count, areAtMost: largest) {
      throw reader.failure(target, "its values are too large for bf16")
    }
  }

  private func rowFactors(_ update: PEFTAdapter.Update, _ magnitude: [Float]) -> [Float] {
    let (matrix, first) = base.matrix(update.projection, layer: update.layer)
    return compute.rowFactors(
      matrix, rows: first..<first + magnitude.count, a: update.a, b: update.b, rank: update.rank, scale: update.scale,
      magnitude: magnitude)
  }
}
