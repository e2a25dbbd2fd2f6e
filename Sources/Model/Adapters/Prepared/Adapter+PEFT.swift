import Formats
public import Foundation
public import Kernels

extension Adapter {
  /// Converts a PEFT folder, whole or not at all, into memory of its own, in the layout that `mode` wants.
  ///
  /// Beside the adapter itself no more than one of its updates is in memory at a time.
  /// - Parameter hash: the hash that `AdapterContents` gives the folder's files; computed if it is `nil`
  /// - Throws: `ModelError` naming the field or tensor that is wrong or not supported
  public convenience init(peft folder: URL, hash: String? = nil, base: Base, mode: ComputeMode) throws {
    let converter = try AdapterConverter(peft: folder, base: base, element: mode.adapterElement)
    let updates = try converter.layout.stacks.flatMap { stack in
      let memory = AlignedBuffer<UInt8>(count: stack.length)
      try converter.convert(stack, into: memory.pointer)
      return stack.updates(at: memory.pointer, owner: memory)
    }
    let others = try converter.layout.others.map { others in
      let memory = AlignedBuffer<UInt8>(count: others.length)
      var scales: [Float] = []
      for section in others.sections {
        try converter.convert(section, of: others, into: memory.pointer + section.offset, scales: &scales)
      }
      return try others.changes(at: memory.pointer, owner: memory, subject: folder.lastPathComponent)
    }
    self.init(
      contentHash: try hash ?? AdapterContents.hash(of: folder).hash, layerCount: base.config.layerCount,
      updates: updates, others: others)
  }
  /// Reads an adapter in any form into memory of its own.
  /// - Parameter path: a PEFT folder, or what `AdapterImport` rewrites as one
  /// - Throws: `ModelError` naming the field or tensor that is wrong or not supported
  public static func read(_ path: URL, base: Base, mode: ComputeMode) throws -> Adapter {
    try AdapterImport.withPEFTFolder(path, config: base.config) { try Adapter(peft: $0, base: base, mode: mode) }
  }
}
