public import Foundation

/// Writes a safetensors file, atomically and tensor by tensor, so that the tensors need not all be in memory.
///
/// In the file, tensors of wider types come first, then they are sorted by name, as in the reference implementation; so
/// every tensor is aligned. `order` is that order, in which `append` takes their bytes.
public final class SafetensorsWriter {
  /// A tensor to write.
  public struct Entry: Sendable, Equatable {
    /// The tensor's name.
    public let name: String
    /// How its numbers are stored.
    public let type: SafetensorsType
    /// Row-major, slowest first; empty for a scalar.
    public let shape: [Int]

    /// - Parameters: as the properties
    public init(name: String, type: SafetensorsType, shape: [Int]) {
      self.name = name
      self.type = type
      self.shape = shape
    }

    /// Bytes of the tensor in the file.
    public var byteCount: Int { shape.reduce(type.size, *) }
  }

  /// The order in which `append` takes the tensors' bytes.
  public let order: [Entry]
  private let file: AtomicFile
  private var next = 0
  private var writtenOfNext = 0

  /// Writes the header.
  /// - Parameters:
  ///   - url: where the file appears when it is finished
  ///   - entries: in any order
  ///   - metadata: the header's `__metadata__`
  /// - Throws: `ModelError` for a name that comes twice or a folder that cannot be written to
  public init(_ url: URL, entries: [Entry], metadata: [String: String] = [:]) throws {
    order = entries.sorted { ($1.type.size, $0.name) < ($0.type.size, $1.name) }
    for (entry, following) in zip(order, order.dropFirst()) where entry.name == following.name {
      throw ModelError(url.lastPathComponent, entry.name, reason: "comes twice")
    }
    file = try AtomicFile(url)
    var header = "{"
    if !metadata.isEmpty {
      let pairs = metadata.sorted { $0.key < $1.key }.map { "\(Self.quoted($0.key)):\(Self.quoted($0.value))" }
      header += "\"__metadata__\":{\(pairs.joined(separator: ","))}"
    }
    var offset = 0
    for entry in order {
      if header.count > 1 { header += "," }
      let shape = entry.shape.map(String.init).joined(separator: ",")
      header += "\(Self.quoted(entry.name)):{\"dtype\":\"\(entry.type.rawValue)\",\"shape\":[\(shape)],"
      header += "\"data_offsets\":[\(offset),\(offset + entry.byteCount)]}"
      offset += entry.byteCount
    }
    header += "}"
    header += String(repeating: " ", count: (8 - header.utf8.count % 8) % 8)
    try withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { try file.write($0) }
    try Array(header.utf8).withUnsafeBytes { try file.write($0) }
  }

  /// Appends bytes of the next tensor in `order`. A tensor's bytes can come in several calls.
  /// - Throws: `ModelError` for more bytes than the tensor has, and if the file cannot be written
  public func append(_ bytes: UnsafeRawBufferPointer) throws {
    skipComplete()
    guard next < order.count, bytes.count <= order[next].byteCount - writtenOfNext else {
      if bytes.isEmpty { return }
      throw ModelError(file.url.lastPathComponent, reason: "more bytes than its tensors have")
    }
    try file.write(bytes)
    writtenOfNext += bytes.count
  }

  /// Makes the file appear under its name.
  /// - Throws: `ModelError` if tensors are missing or the disk fails
  public func finish() throws {
    skipComplete()
    guard next == order.count else {
      throw ModelError(file.url.lastPathComponent, order[next].name, reason: "was not written whole")
    }
    try file.finish()
  }

  private func skipComplete() {
    while next < order.count, writtenOfNext == order[next].byteCount {
      next += 1
      writtenOfNext = 0
    }
  }

  /// Writes f32 tensors that are in memory.
  /// - Parameter tensors: row-major values, as many as the shape says
  /// - Throws: `ModelError` naming the tensor or the file
  public static func write(
    _ tensors: [(name: String, shape: [Int], values: [Float])], metadata: [String: String] = [:], to url: URL
  ) throws {
    let entries = tensors.map { Entry(name: $0.name, type: .f32, shape: $0.shape) }
    let writer = try SafetensorsWriter(url, entries: entries, metadata: metadata)
    let values = Dictionary(tensors.map { ($0.name, $0.values) }, uniquingKeysWith: { first, _ in first })
    for entry in writer.order {
      try (values[entry.name] ?? []).withUnsafeBytes { bytes in
        guard bytes.count == entry.byteCount else {
          throw ModelError(url.lastPathComponent, entry.name, reason: "\(bytes.count) bytes for shape \(entry.shape)")
        }
        try writer.append(bytes)
      }
    }
    try writer.finish()
  }

  private static func quoted(_ text: String) -> String {
    String(decoding: JSONValue.string(text).encoded, as: UTF8.self)
  }
}
