public import Foundation
import Kernels

extension Adapter {
  /// Reads a PEFT folder, whole or not at all.
  /// - Throws: `ModelError` naming the field or tensor that is wrong or not supported
  public convenience init(peft folder: URL, config: ModelConfig) throws {
    let peft = try PEFTAdapter.read(folder: folder, config: config, acceptsDoRA: false)
    var layers = [[LinearModule: Module]](repeating: [:], count: config.layerCount)
    var hash = SHA256()
    for module in peft.modules {
      let shape = module.linear.shape(config)
      layers[module.layer][module.linear] = Module(
        a: Matrix(rowMajor: module.a, outputs: module.rank, columns: shape.input),
        b: Matrix(rowMajor: module.b, outputs: shape.output, columns: module.rank), rank: module.rank,
        scale: module.scale)
      hash.update("\(module.linear.fullName(layer: module.layer)) \(module.rank) \(module.scale.bitPattern);")
      module.a.withUnsafeBytes { hash.update($0) }
      module.b.withUnsafeBytes { hash.update($0) }
    }
    self.init(contentHash: hash.finish(), layers: layers)
  }

  /// The largest rank of any module.
  public var rank: Int { layers.reduce(0) { max($0, $1.values.reduce(0) { max($0, $1.rank) }) } }

  /// The modules that some layer has, in the order of a forward pass.
  public var targets: [LinearModule] {
    LinearModule.allCases.filter { module in layers.contains { $0[module] != nil } }
  }
}
