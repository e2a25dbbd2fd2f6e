public import Foundation
public import Kernels

extension Adapter {
  /// Reads a PEFT folder, whole or not at all.
  /// - Throws: `ModelError` naming the field or tensor that is wrong or not supported
  public convenience init(peft folder: URL, base: Base, mode: ComputeMode) throws {
    self.init(try PEFTAdapter.read(folder: folder, config: base.config), base: base, mode: mode)
  }

  /// Lays an adapter out as `mode` wants it; DoRA's row norms are taken of `base`.
  ///
  /// Takes a pass over the base's weights for DoRA, and runs on the caller's thread alone.
  public convenience init(_ peft: PEFTAdapter, base: Base, mode: ComputeMode) {
    let compute = Compute(pool: ThreadPool(threads: 1), mode: .f32)
    var modules: [(layer: Int, linear: LinearModule, module: Module)] = []
    var hash = SHA256()
    for module in peft.modules {
      let shape = module.linear.shape(base.config)
      let rowFactors = module.magnitude.map { magnitude in
        let (matrix, offset) = base.matrix(module.linear, layer: module.layer)
        return compute.rowFactors(
          matrix, rows: offset..<offset + shape.output, a: module.a, b: module.b, rank: module.rank,
          scale: module.scale, magnitude: magnitude)
      }
      let factors = LowRank(
        a: module.a, b: module.b, rank: module.rank, columns: shape.input, outputs: shape.output,
        element: mode.adapterElement, rowFactors: rowFactors)
      modules.append((module.layer, module.linear, Module(factors: factors, scale: module.scale)))
      hash.update("\(module.linear.fullName(layer: module.layer)) \(module.rank) \(module.scale.bitPattern);")
      module.a.withUnsafeBytes { hash.update($0) }
      module.b.withUnsafeBytes { hash.update($0) }
      module.magnitude?.withUnsafeBytes { hash.update($0) }
    }
    self.init(contentHash: hash.finish(), layerCount: base.config.layerCount, modules: modules)
  }
}
