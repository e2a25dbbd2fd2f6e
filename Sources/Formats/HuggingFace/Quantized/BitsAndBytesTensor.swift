import Foundation
import Kernels

/// A weight that bitsandbytes quantised to NF4 or FP4 (Dettmers et al., 2023), which is stored as several tensors: the packed
/// codes under the weight's name, `NAME.absmax`, `NAME.quant_map` and `NAME.quant_state.bitsandbytes__nf4` or `…__fp4`. If
/// the scales are quantised too, `NAME.nested_absmax` and `NAME.nested_quant_map` decode them (`QuantState.as_dict`,
/// bitsandbytes 0.50). Blocks run over the flattened matrix.
struct BitsAndBytesTensor: QuantizedTensor {
  private struct Nested {
    let map: [Float]
    let blockSize: Int
    let offset: Float
  }

  let names: [String]
  let shape: [Int]
  let blockSize: Int
  /// Whether the codes are NF4's, which preparing keeps.
  let isNF4: Bool
  private let name: String
  /// The value of each code, relative to its block's scale.
  private let values: [Float]
  private let packed: SafetensorsFile
  private let scales: SafetensorsFile
  /// How to decode the scales, and the file with the nested scales; `nil` if the scales are not quantised.
  private let nested: (file: SafetensorsFile, parameters: Nested)?

  /// FP4's values are those of 4-bit floats, of which the largest is 12.
  private static let fp4 = ([0, 0.0625, 8, 12, 4, 6, 2, 3, 0, -0.0625, -8, -12, -4, -6, -2, -3] as [Float]).map {
    $0 / 12
  }

  private static func stateSuffix(_ type: String) -> String { ".quant_state.bitsandbytes__\(type)" }

  /// Whether a weight is stored in 4 bits.
  static func exists(_ name: String, in folder: SafetensorsFolder) -> Bool {
    ["nf4", "fp4"].contains { folder.tensor(name + stateSuffix($0)) != nil }
  }

  /// - Parameters:
  ///   - shape: that the weight must have
  ///   - isNF4: what the configuration says of all weights
  /// - Throws: `ModelError` naming the tensor that is missing or does not fit
  init(_ name: String, shape: [Int], isNF4: Bool, in folder: SafetensorsFolder) throws {
    func owner(_ name: String) throws -> SafetensorsFile {
      guard let file = folder.file(of: name) else { throw ModelError(folder.subject(name), name, reason: "missing") }
      return file
    }
    func failure(_ name: String, _ reason: String) -> ModelError {
      ModelError(folder.subject(name), name, reason: reason)
    }
    let type = isNF4 ? "nf4" : "fp4"
    let stateName = name + Self.stateSuffix(type)
    let state = try Self.state(owner(stateName), stateName)
    guard state.quantType == type else { throw failure(stateName, "quant_type \(state.quantType) is not supported") }
    guard state.shape == shape else { throw failure(name, "shape \(state.shape) instead of \(shape)") }
    let elements = shape.reduce(1, *)
    guard 32...4096 ~= state.blockSize, state.blockSize & (state.blockSize - 1) == 0 else {
      throw failure(stateName, "a blocksize of \(state.blockSize)")
    }
    packed = try owner(name)
    let bytes = try packed.tensor(name).byteRange.count
    guard bytes == NF4.packedCount(elements) else {
      throw failure(name, "\(bytes) bytes instead of \(NF4.packedCount(elements)) for \(shape)")
    }
    let mapName = name + ".quant_map"
    let map = try owner(mapName).floats(mapName, limit: 16)
    values = isNF4 ? NF4.values : Self.fp4
    guard map == values else { throw failure(mapName, "is not the \(isNF4 ? "NF4" : "FP4") code") }
    let scalesName = name + ".absmax"
    scales = try owner(scalesName)
    let blocks = NF4.blockCount(elements, blockSize: state.blockSize)
    var names = [name, stateName, mapName, scalesName]
    let count = try scales.tensor(scalesName).elementCount
    guard count == blocks else { throw failure(scalesName, "\(count) scales instead of \(blocks)") }
    if let nestedBlockSize = state.nestedBlockSize {
      guard try scales.tensor(scalesName).type == .u8 else { throw failure(scalesName, "not of type U8") }
      let nestedMapName = name + ".nested_quant_map"
      let nestedMap = try owner(nestedMapName).floats(nestedMapName, limit: 256)
      guard nestedMap.count == 256, nestedMap.allSatisfy(\.isFinite) else {
        throw failure(nestedMapName, "does not hold 256 finite values")
      }
      guard 1...65_536 ~= nestedBlockSize else { throw failure(stateName, "a nested_blocksize of \(nestedBlockSize)") }
      let nestedName = name + ".nested_absmax"
      let nestedFile = try owner(nestedName)
      let nestedCount = try nestedFile.tensor(nestedName).elementCount
      let wanted = (blocks + nestedBlockSize - 1) / nestedBlockSize
      guard nestedCount == wanted else { throw failure(nestedName, "\(nestedCount) scales instead of \(wanted)") }
      names += [nestedName, nestedMapName]
      nested = (nestedFile, Nested(map: nestedMap, blockSize: nestedBlockSize, offset: state.nestedOffset))
    } else {
      guard folder.tensor(name + ".nested_absmax") == nil else {
        throw failure(name + ".nested_absmax", "unexpected: the quant_state has no nested_blocksize")
      }
      nested = nil
    }
    self.names = names
    self.name = name
    self.isNF4 = isNF4
    self.shape = shape
    self.blockSize = state.blockSize
  }

  private struct State {
    let quantType: String
    let blockSize: Int
    let shape: [Int]
    let nestedBlockSize: Int?
    let nestedOffset: Float
  }

  /// Reads the quant_state tensor, whose bytes are JSON in UTF-8.
  private static func state(_ file: SafetensorsFile, _ name: String) throws -> State {
    let subject = "\(file.url.lastPathComponent): \(name)"
    guard try file.tensor(name).byteRange.count <= 65_536 else { throw ModelError(subject, reason: "too long") }
    guard let object = try JSONValue.parse(file.bytes(name), subject: subject, limits: .file(values: 1000)).object
    else {
      throw ModelError(subject, reason: "not a JSON object")
    }
    let fields = HuggingFaceFields(object: object, file: subject)
    let shape = try fields.required("shape") { fields.object[$0]?.array }
    let offset = Float(try fields.number("nested_offset") ?? 0)
    guard offset.isFinite else { throw fields.failure("nested_offset", "out of range") }
    let nestedBlockSize = try fields.integer("nested_blocksize")
    if nestedBlockSize != nil, fields.object["nested_offset"]?.double == nil {
      throw fields.failure("nested_offset", "missing")
    }
    return State(
      quantType: try fields.required("quant_type") { try fields.string($0) },
      blockSize: try fields.required("blocksize") { try fields.integer($0) }, shape: shape.compactMap(\.integer),
      nestedBlockSize: nestedBlockSize, nestedOffset: offset)
  }

  /// Decodes rows: each value is its code's value times its block's scale.
  /// - Parameter destination: `rows.count × columns` floats
  /// - Throws: `ModelError` for a short read and for a scale that is not finite
  func read(rows: Range<Int>, into destination: UnsafeMutableBufferPointer<Float>) throws {
    let columns = shape[1]
    guard rows.lowerBound >= 0, rows.upperBound <= shape[0], destination.count >= rows.count * columns else {
      throw ModelError(packed.url.lastPathComponent, name, reason: "rows \(rows) of \(shape[0])")
    }
    // A limited number of whole blocks at a time, so that memory stays small however many rows are asked for.
    let end = rows.upperBound * columns
    let step = blockSize * 4096
    var element = rows.lowerBound * columns
    var output = 0
    while element < end {
      let firstBlock = element / blockSize
      let partEnd = min(end, firstBlock * blockSize + step)
      let blocks = firstBlock..<NF4.blockCount(partEnd, blockSize: blockSize)
      let firstElement = firstBlock * blockSize
      let absmax = try readScales(blocks)
      let codes = try packed.bytes(name, range: (firstElement / 2)..<NF4.packedCount(partEnd))
      let target = UnsafeMutableBufferPointer(rebasing: destination[output..<(output + partEnd - element)])
      codes.withUnsafeBufferPointer { codes in
        absmax.withUnsafeBufferPointer { absmax in
          NF4.dequantize(
            packed: codes, absmax: absmax, blockSize: blockSize, values: values,
            elements: (element - firstElement)..<(partEnd - firstElement), into: target)
        }
      }
      output += partEnd - element
      element = partEnd
    }
  }

  /// The whole weight: its codes as they are stored, and its scales decoded. The codes must be NF4's.
  /// - Throws: `ModelError` for a short read and for a scale that is not finite
  func tensor() throws -> NF4Tensor {
    let blocks = NF4.blockCount(shape.reduce(1, *), blockSize: blockSize)
    return NF4Tensor(
      shape: shape, blockSize: blockSize, packed: try packed.bytes(name), absmax: try readScales(0..<blocks))
  }

  /// The decoded scales of some blocks.
  /// - Throws: `ModelError` if one is not finite
  private func readScales(_ blocks: Range<Int>) throws -> [Float] {
    let absmax: [Float]
    if let nested {
      let size = nested.parameters.blockSize
      let groups = (blocks.lowerBound / size)..<((blocks.upperBound + size - 1) / size)
      let first = groups.lowerBound * size
      let nestedAbsmax = try Self.floats(nested.file, name + ".nested_absmax", groups)
      let codes = try scales.bytes(name + ".absmax", range: first..<blocks.upperBound)
      let quantized = DoubleQuantizedAbsmax(
        codes: codes, nestedAbsmax: nestedAbsmax, map: nested.parameters.map, blockSize: size,
        offset: nested.parameters.offset)
      absmax = Array(quantized.decoded().dropFirst(blocks.lowerBound - first))
    } else {
      absmax = try Self.floats(scales, name + ".absmax", blocks)
    }
    guard absmax.allSatisfy(\.isFinite) else {
      throw ModelError(scales.url.lastPathComponent, name + ".absmax", reason: "has scales that are not finite")
    }
    return absmax
  }

  private static func floats(_ file: SafetensorsFile, _ name: String, _ range: Range<Int>) throws -> [Float] {
    try [Float](unsafeUninitializedCapacity: range.count) { buffer, initialized in
      try file.readFloats(name, range: range, into: buffer)
      initialized = range.count
    }
  }
}
