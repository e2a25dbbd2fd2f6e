/// A weight in compressed-tensors' `pack-quantized` form: `weight_packed` [rows, words], where a 32-bit word holds codes of
/// neighbouring columns, the first in the low bits; `weight_scale` [rows, groups], or one for each row or for all;
/// `weight_zero_point` [words, groups], packed along the rows; `weight_shape`; and `weight_g_idx` [columns], the group of
/// each column, which older versions write. Codes and zeros are stored with 2^(bits - 1) added. A value is (code - zero) ×
/// scale.
struct PackedTensor: QuantizedTensor {
  let names: [String]
  let shape: [Int]
  private let bits: Int
  private let groups: Int
  private let codes: StoredTensor
  private let scales: StoredTensor
  private let zeros: StoredTensor?
  private let order: StoredTensor?

  /// - Parameters:
  ///   - weight: the name that the weight would have if it were not quantised, "….weight"
  ///   - bits: 2, 4 or 8; those that the configuration says
  /// - Throws: `ModelError` naming the tensor that is missing or does not fit
  init(_ weight: String, shape: [Int], bits allowed: [Int], in folder: SafetensorsFolder) throws {
    let (rows, columns) = (shape[0], shape[1])
    let codes = try StoredTensor(weight + "_packed", [.i32], shape: nil, in: folder)
    let bits = allowed.first { codes.shape == [rows, (columns * $0 + 31) / 32] }
    guard let bits else { throw codes.failure("shape \(codes.shape) does not hold \(shape) in \(allowed) bits") }
    scales = try StoredTensor(weight + "_scale", StoredTensor.scaleTypes, shape: nil, in: folder)
    // One scale for all, or for each row, or several for each row.
    groups = scales.elementCount == 1 ? 1 : scales.shape.count == 2 ? scales.shape[1] : 1
    guard groups > 0, columns % groups == 0,
      scales.elementCount == 1 || scales.shape == [rows] || scales.shape == [rows, groups]
    else { throw scales.failure("shape \(scales.shape) for \(shape)") }
    let zeroName = weight + "_zero_point"
    zeros =
      try folder.tensor(zeroName) == nil
      ? nil : StoredTensor(zeroName, [.i32], shape: [(rows * bits + 31) / 32, groups], in: folder)
    let shapeTensor = try StoredTensor(weight + "_shape", [.i64, .i32], shape: [2], in: folder)
    let stated = try Self.integers(shapeTensor)
    guard stated == shape else { throw shapeTensor.failure("\(stated) instead of \(shape)") }
    let orderName = weight + "_g_idx"
    order =
      try folder.tensor(orderName) == nil ? nil : StoredTensor(orderName, [.i32], shape: [columns], in: folder)
    self.shape = shape
    self.bits = bits
    self.codes = codes
    let module = String(weight.dropLast(".weight".count))
    // Tensors that say how activations are rounded. Graft does not round them.
    let activations = [".input_scale", ".input_zero_point"].map { module + $0 }.filter { folder.tensor($0) != nil }
    names = [codes.name, scales.name, shapeTensor.name] + [zeros, order].compactMap { $0?.name } + activations
  }

  private static func integers(_ tensor: StoredTensor) throws -> [Int] {
    var bytes = [UInt8](repeating: 0, count: tensor.elementCount * tensor.type.size)
    try bytes.withUnsafeMutableBytes { try tensor.read(first: 0, into: $0) }
    return bytes.withUnsafeBytes { bytes in
      (0..<tensor.elementCount).map { index in
        tensor.type == .i64
          ? Int(Int64(littleEndian: bytes.loadUnaligned(fromByteOffset: index * 8, as: Int64.self)))
          : Int(Int32(littleEndian: bytes.loadUnaligned(fromByteOffset: index * 4, as: Int32.self)))
      }
    }
  }

  /// The group of each column.
  private func groupOfColumn() throws -> [Int] {
    let size = shape[1] / groups
    let inOrder = (0..<shape[1]).map { $0 / size }
    guard let order else { return inOrder }
    let indices = try order.words(0..<shape[1]).map { Int(Int32(bitPattern: $0)) }
    // The library fills the tensor with -1 where it reorders nothing.
    if indices.allSatisfy({ $0 == -1 }) { return inOrder }
    if let column = indices.firstIndex(where: { !(0..<groups).contains($0) }) {
      throw order.failure("group \(indices[column]) of column \(column), of \(groups) groups")
    }
    return indices
  }

  func read(rows: Range<Int>, into destination: UnsafeMutableBufferPointer<Float>) throws {
    try check(rows, destination, codes)
    let columns = shape[1]
    let wordsOfRow = codes.shape[1]
    let packed = 32 / bits
    let mask = UInt32(1) << UInt32(bits) - 1
    let group = try groupOfColumn()
    let isShared = scales.elementCount == 1
    for (index, row) in rows.enumerated() {
      let first = isShared ? 0 : row * groups
      let scale = try scales.scales(first..<first + groups)
      // What is added to codes and to zeros cancels; without zeros it is subtracted.
      var zero = [Float](repeating: Float(UInt32(1) << UInt32(bits - 1)), count: groups)
      if let zeros {
        let words = try zeros.words(row / packed * groups..<(row / packed + 1) * groups)
        zero = words.map { Float($0 &>> UInt32(row % packed * bits) & mask) }
      }
      let words = try codes.words(row * wordsOfRow..<(row + 1) * wordsOfRow)
      for column in 0..<columns {
        let code = Float(words[column / packed] &>> UInt32(column % packed * bits) & mask)
        destination[index * columns + column] = (code - zero[group[column]]) * scale[group[column]]
      }
    }
  }
}
