import Formats
public import Foundation
public import Kernels

extension Adapter {
  /// Converts a PEFT folder, whole or not at all, into memory of its own, as `mode` wants it.
  ///
  /// Beside the adapter itself no more than one module of it is in memory at a time.
  /// - Parameter hash: `AdapterContents`' of the folder, where it is known
  /// - Throws: `ModelError` naming the field or tensor that is wrong or not supported
  public convenience init(peft folder: URL, hash: String? = nil, base: Base, mode: ComputeMode) throws {
    let converter = try AdapterConverter(peft: folder, base: base, element: mode.adapterElement)
    let modules = try converter.layout.stacks.flatMap { stack in
      let memory = AlignedBuffer<UInt8>(count: stack.length)
      try converter.convert(stack, into: memory.pointer)
      return stack.modules(at: memory.pointer, owner: memory)
    }
    self.init(
      contentHash: try hash ?? AdapterContents.hash(of: folder).hash, layerCount: base.config.layerCount,
      modules: modules)
  }
}
