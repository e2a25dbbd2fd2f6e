/// A weight that GPTQ quantised (Frantar et al., 2022), as AutoGPTQ and GPTQModel store it: `qweight` [columns / n, rows],
/// where a 32-bit word holds n codes of neighbouring columns, the first in the low bits; `scales` [groups, rows]; `qzeros`
/// [groups, rows / n], packed along the rows; and `g_idx` [columns], the group of each column, which activation order
/// shuffles. A value is (code - zero) × scale.
struct GPTQTensor: QuantizedTensor {
  /// What the configuration says of all weights.
  struct Format: Sendable, Equatable {
    /// 2, 4 or 8.
    var bits: Int
    /// Columns that share a scale; `nil` for all.
    var groupSize: Int?
    /// Without `g_idx` nothing says which columns are a group.
    var needsOrder: Bool
    /// The first format, in which the stored zeros are less by 1.
    var addsOne: Bool
  }

  let names: [String]
  let shape: [Int]
  private let format: Format
  private let groups: Int
  private let codes: StoredTensor
  private let scales: StoredTensor
  private let zeros: StoredTensor
  private let order: StoredTensor?

  /// - Parameter weight: the name that the weight would have if it were not quantised, "….weight"
  /// - Throws: `ModelError` naming the tensor that is missing or does not fit
  init(_ weight: String, shape: [Int], format: Format, in folder: SafetensorsFolder) throws {
    let module = String(weight.dropLast(".weight".count))
    let (rows, columns) = (shape[0], shape[1])
    let packed = 32 / format.bits
    guard rows % packed == 0, columns % packed == 0 else {
      throw ModelError(
        folder.subject(module + ".qweight"), module + ".qweight",
        reason: "\(shape) is no whole number of words of \(packed) codes")
    }
    let groupSize = format.groupSize ?? columns
    groups = (columns + groupSize - 1) / groupSize
    codes = try StoredTensor(module + ".qweight", [.i32], shape: [columns / packed, rows], in: folder)
    scales = try StoredTensor(module + ".scales", StoredTensor.scaleTypes, shape: [groups, rows], in: folder)
    zeros = try StoredTensor(module + ".qzeros", [.i32], shape: [groups, rows / packed], in: folder)
    let orderName = module + ".g_idx"
    order =
      try format.needsOrder || folder.tensor(orderName) != nil
      ? StoredTensor(orderName, [.i32], shape: [columns], in: folder) : nil
    self.shape = shape
    self.format = format
    var names = [codes.name, scales.name, zeros.name]
    if let order { names.append(order.name) }
    if try Self.isZero(module + ".bias", count: rows, in: folder) { names.append(module + ".bias") }
    self.names = names
  }

  /// Whether there is a bias of zeros, which AutoGPTQ writes for modules without one.
  private static func isZero(_ name: String, count: Int, in folder: SafetensorsFolder) throws -> Bool {
    guard folder.tensor(name)?.elementCount == count else { return false }
    return try StoredTensor(name, StoredTensor.scaleTypes, shape: [count], in: folder).scales(0..<count)
      .allSatisfy { $0 == 0 }
  }

  /// The group of each column.
  private func groupOfColumn() throws -> [Int] {
    guard let order else {
      let size = format.groupSize ?? shape[1]
      return (0..<shape[1]).map { $0 / size }
    }
    let indices = try order.words(0..<shape[1])
    if let column = indices.firstIndex(where: { $0 >= groups }) {
      throw order.failure("group \(Int32(bitPattern: indices[column])) of column \(column), of \(groups) groups")
    }
    return indices.map { Int($0) }
  }

  func read(rows: Range<Int>, into destination: UnsafeMutableBufferPointer<Float>) throws {
    try check(rows, destination, codes)
    guard !rows.isEmpty else { return }
    let (count, columns) = (rows.count, shape[1])
    let packed = 32 / format.bits
    let mask = UInt32(1) << UInt32(format.bits) - 1
    let group = try groupOfColumn()
    // The added ones carry from one zero of a word to the next, as they borrowed when the file was written.
    let ones = format.addsOne ? UInt32.max / mask : 0
    var scale: [Float] = []
    var zero: [Float] = []
    for index in 0..<groups {
      let first = index * shape[0]
      scale += try scales.scales(first + rows.lowerBound..<first + rows.upperBound)
      let (firstWord, lastWord) = (rows.lowerBound / packed, (rows.upperBound - 1) / packed)
      let words = try zeros.words(first / packed + firstWord..<first / packed + lastWord + 1)
      for row in rows {
        let word = words[row / packed - firstWord] &+ ones
        zero.append(Float(word &>> UInt32(row % packed * format.bits) & mask))
      }
    }
    var words = [UInt32](repeating: 0, count: count)
    for wordRow in 0..<columns / packed {
      try words.withUnsafeMutableBytes { try codes.read(first: wordRow * shape[0] + rows.lowerBound, into: $0) }
      for row in 0..<count {
        for part in 0..<packed {
          let column = wordRow * packed + part
          let code = Float(words[row] &>> UInt32(part * format.bits) & mask)
          let index = group[column] * count + row
          destination[row * columns + column] = (code - zero[index]) * scale[index]
        }
      }
    }
  }
}
