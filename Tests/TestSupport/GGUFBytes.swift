import Formats

/// A GGUF file's metadata and f32 tensors as bytes.
public struct GGUFBytes {
  public enum Value: Sendable {
    case integer(UInt32)
    case float(Float)
    case bool(Bool)
    case string(String)
    case strings([String])
    case integers([Int32])
    case bools([Bool])
  }

  public var metadata: [(key: String, value: Value)]
  /// In the file's names and row order.
  public var tensors: [(name: String, shape: [Int], values: [Float])]

  public init(
    metadata: [(key: String, value: Value)], tensors: [(name: String, shape: [Int], values: [Float])]
  ) {
    self.metadata = metadata
    self.tensors = tensors
  }

  /// The type codes of metadata values (ggml-org/ggml, docs/gguf.md).
  private enum Code {
    static let uint32: UInt32 = 4
    static let int32: UInt32 = 5
    static let float32: UInt32 = 6
    static let bool: UInt32 = 7
    static let string: UInt32 = 8
    static let array: UInt32 = 9
  }

  public var bytes: [UInt8] {
    var bytes = Array("GGUF".utf8)
    func put(_ value: some FixedWidthInteger) { withUnsafeBytes(of: value.littleEndian) { bytes += $0 } }
    func put(_ text: String) {
      put(UInt64(text.utf8.count))
      bytes += text.utf8
    }
    put(UInt32(3))
    put(UInt64(tensors.count))
    put(UInt64(metadata.count))
    for (key, value) in metadata {
      put(key)
      switch value {
      case .integer(let integer):
        put(Code.uint32)
        put(integer)
      case .float(let float):
        put(Code.float32)
        put(float.bitPattern)
      case .bool(let bool):
        put(Code.bool)
        put(UInt8(bool ? 1 : 0))
      case .string(let text):
        put(Code.string)
        put(text)
      case .strings(let texts):
        put(Code.array)
        put(Code.string)
        put(UInt64(texts.count))
        for text in texts { put(text) }
      case .integers(let integers):
        put(Code.array)
        put(Code.int32)
        put(UInt64(integers.count))
        for integer in integers { put(integer) }
      case .bools(let bools):
        put(Code.array)
        put(Code.bool)
        put(UInt64(bools.count))
        for bool in bools { put(UInt8(bool ? 1 : 0)) }
      }
    }
    var offset = 0
    for tensor in tensors {
      put(tensor.name)
      put(UInt32(tensor.shape.count))
      for size in tensor.shape.reversed() { put(UInt64(size)) }
      put(GGUFTensorType.f32.code)
      put(UInt64(offset))
      offset += aligned(tensor.values.count * 4)
    }
    bytes += [UInt8](repeating: 0, count: aligned(bytes.count) - bytes.count)
    for tensor in tensors {
      tensor.values.withUnsafeBytes { bytes += $0 }
      bytes += [UInt8](repeating: 0, count: aligned(bytes.count) - bytes.count)
    }
    return bytes
  }

  private func aligned(_ count: Int) -> Int { (count + 31) / 32 * 32 }
}
