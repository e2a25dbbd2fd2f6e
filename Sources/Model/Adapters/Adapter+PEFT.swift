public import Foundation
public import Kernels

extension Adapter {
  /// Reads a PEFT folder, whole or not at all, and lays it out as `mode` wants it; DoRA's row norms are taken of `base`.
  ///
  /// Beside the adapter itself no more than one module of it is in memory at a time. Takes a pass over the base's weights
  /// for DoRA, and runs on the caller's thread alone.
  /// - Throws: `ModelError` naming the field or tensor that is wrong or not supported
  public convenience init(peft folder: URL, base: Base, mode: ComputeMode) throws {
    let reader = try PEFTReader(folder: folder, config: base.config)
    let compute = Compute(pool: ThreadPool(threads: 1), mode: .f32)
    var modules: [(layer: Int, linear: LinearModule, module: Module)] = []
    var hash = SHA256()
    for target in reader.targets {
      let module = try reader.module(target)
      hash.update("\(module.linear.fullName(layer: module.layer)) \(module.rank) \(module.scale.bitPattern);")
      module.a.withUnsafeBytes { hash.update($0) }
      module.b.withUnsafeBytes { hash.update($0) }
      module.magnitude?.withUnsafeBytes { hash.update($0) }
      modules.append((module.layer, module.linear, Module(module, base: base, mode: mode, compute: compute)))
    }
    self.init(contentHash: hash.finish(), layerCount: base.config.layerCount, modules: modules)
  }
}

extension Adapter.Module {
  fileprivate init(_ peft: PEFTAdapter.Module, base: Base, mode: ComputeMode, compute: Compute) {
    let shape = peft.linear.shape(base.config)
    let rowFactors = peft.magnitude.map { magnitude in
      let (matrix, offset) = base.matrix(peft.linear, layer: peft.layer)
      return compute.rowFactors(
        matrix, rows: offset..<offset + shape.output, a: peft.a, b: peft.b, rank: peft.rank, scale: peft.scale,
        magnitude: magnitude)
    }
    factors = LowRank(
      a: peft.a, b: peft.b, rank: peft.rank, columns: shape.input, outputs: shape.output,
      element: mode.adapterElement, rowFactors: rowFactors)
    scale = peft.scale
  }
}
