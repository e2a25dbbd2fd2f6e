import Formats
public import Foundation
public import Kernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Loads adapters from their folders. A protocol, so that tests of the store can load without converting.
public protocol AdapterPreparing: Sendable {
  /// The base that the adapters are for.
  var base: Base { get }

  /// Checks a PEFT folder's configuration and the names of its tensors.
  /// - Throws: `ModelError` naming the field or tensor that is wrong or not supported
  func check(_ folder: URL) throws

  /// Maps a folder's prepared file and reads all its pages, so that computing with the adapter waits for no disk.
  /// - Parameter hash: the hash that `AdapterContents` gives the folder's files
  /// - Returns: `nil` if there is no prepared file
  /// - Throws: `ModelError` naming the file and why it cannot be used
  func map(_ folder: URL, hash: String) throws -> Adapter?

  /// Converts a folder's PEFT files into a prepared one, and maps it. Where none can be written, the adapter gets memory
  /// of its own.
  /// - Parameter hash: the hash that `AdapterContents` gives the folder's files
  /// - Returns: the adapter, and why it is not mapped if it is not
  /// - Throws: `ModelError` naming the field or tensor that is wrong or not supported
  func prepare(_ folder: URL, hash: String) throws -> (adapter: Adapter, failure: (any Error)?)
}

/// Keeps a prepared file of an adapter beside its PEFT files: converted once for a base and a compute mode, mapped from
/// then on.
///
/// A prepared file appears under its name whole and synced, or not at all. One that is lost or damaged is written again
/// from the PEFT files.
public struct AdapterPreparer: AdapterPreparing {
  /// As `AdapterPreparing` says.
  public let base: Base
  private let mode: ComputeMode

  /// - Parameters:
  ///   - base: that the adapters were trained for
  ///   - mode: which decides the number format of the factors
  public init(base: Base, mode: ComputeMode) {
    self.base = base
    self.mode = mode
  }

  private static let prefix = "prepared-"
  private static let suffix = "-v\(PreparedAdapterHeader.currentVersion).graft"

  /// The path of the prepared file in an adapter's folder, whether or not there is one.
  public func location(in folder: URL) -> URL {
    let key = "\(mode.adapterElement.rawValue)-\(base.fingerprint.prefix(16))"
    return folder.appending(path: Self.prefix + key + Self.suffix)
  }

  /// Whether a file in an adapter's folder is a prepared file of another version, or one that was never finished.
  static func isLeftover(_ name: String) -> Bool {
    name.hasPrefix("." + prefix) || (name.hasPrefix(prefix) && !name.hasSuffix(suffix))
  }

  /// As `AdapterPreparing` says.
  public func check(_ folder: URL) throws {
    _ = try AdapterConverter(peft: folder, base: base, element: mode.adapterElement)
  }

  /// As `AdapterPreparing` says.
  public func map(_ folder: URL, hash: String) throws -> Adapter? {
    let url = location(in: folder)
    guard FileManager.default.fileExists(atPath: url.path) else { return nil }
    func failure(_ reason: String) -> ModelError { ModelError(url.path, reason: reason) }
    let file = try MappedFile(url)
    let (header, headerLength) = try PreparedAdapterHeader.codec.decode(PreparedAdapterHeader.self, of: file)
    let element = mode.adapterElement
    guard header.contents == hash, header.base == base.fingerprint, header.element == element.rawValue else {
      throw failure("prepared from another adapter, for another base or another mode")
    }
    let layout = try header.layout(base.config, element: element, subject: url.path)
    let start = PreparedAdapterHeader.dataStart(headerLength)
    guard file.count - start == layout.length else { throw failure("\(file.count) bytes, which is not its size") }
    guard let mapping = file.mapping, mapping.populate() else { throw failure("cannot be read") }
    let data = try file.bytes(offset: start, count: layout.length)
    guard Checksum.of(data) == header.checksum else { throw failure("damaged (its checksum differs)") }
    let first = mapping.start + start
    return Adapter(
      contentHash: hash, layerCount: base.config.layerCount,
      updates: layout.stacks.flatMap { $0.updates(at: first + $0.offset, owner: mapping) },
      others: try layout.others?.changes(at: first + layout.stackLength, owner: mapping, subject: url.path))
  }

  /// As `AdapterPreparing` says.
  public func prepare(_ folder: URL, hash: String) throws -> (adapter: Adapter, failure: (any Error)?) {
    do {
      try write(folder, hash: hash)
      if let adapter = try map(folder, hash: hash) { return (adapter, nil) }
      throw ModelError(location(in: folder).path, reason: "gone as soon as it was written")
    } catch {
      // If the PEFT files themselves are wrong, converting them in memory throws the same error.
      return (try Adapter(peft: folder, hash: hash, base: base, mode: mode), error)
    }
  }

  private func write(_ folder: URL, hash: String) throws {
    let element = mode.adapterElement
    let converter = try AdapterConverter(peft: folder, base: base, element: element)
    let (layout, codec) = (converter.layout, PreparedAdapterHeader.codec)
    var header = PreparedAdapterHeader(
      contents: hash, base: base.fingerprint, element: element.rawValue, usesDoRA: converter.usesDoRA,
      entries: layout.entries, others: layout.others?.entries, checksum: HeaderCodec.blankChecksum)
    let file = try AtomicFile(location(in: folder))
    try file.write(zeros: PreparedAdapterHeader.dataStart(try codec.encode(header).count))
    let sections = layout.others?.sections ?? []
    let largest = (layout.stacks.map(\.length) + sections.map(\.paddedLength)).max() ?? 0
    let memory = AlignedBuffer<UInt8>(count: largest)
    var checksum = Checksum()
    func append(_ length: Int, _ convert: (UnsafeMutableRawPointer) throws -> Void) throws {
      memset(memory.pointer, 0, length)
      try convert(memory.pointer)
      let bytes = UnsafeRawBufferPointer(start: memory.pointer, count: length)
      checksum.update(bytes)
      try file.write(bytes)
    }
    for stack in layout.stacks { try append(stack.length) { try converter.convert(stack, into: $0) } }
    if let others = layout.others {
      var scales: [Float] = []
      for section in sections {
        try append(section.paddedLength) { try converter.convert(section, of: others, into: $0, scales: &scales) }
      }
    }
    header.checksum = checksum.finish()
    try codec.encode(header).withUnsafeBytes { try file.overwrite(offset: 0, $0) }
    try file.finish()
  }
}
