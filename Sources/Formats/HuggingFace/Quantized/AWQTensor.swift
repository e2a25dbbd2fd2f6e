/// A weight that AWQ quantised to 4 bits (Lin et al., 2023), in the order of AutoAWQ's GEMM kernels: `qweight` [columns,
/// rows / 8], `qzeros` [groups, rows / 8] and `scales` [groups, rows]. A 32-bit word holds the codes of 8 neighbouring rows,
/// those of rows 0, 2, 4, 6, 1, 3, 5, 7 from the low bits to the high ones. A value is (code - zero) × scale.
struct AWQTensor: QuantizedTensor {
  let names: [String]
  let shape: [Int]
  private let groupSize: Int
  private let codes: StoredTensor
  private let scales: StoredTensor
  private let zeros: StoredTensor

  private static let packed = 8
  /// The bit where a row's code begins in its word.
  private static let shifts: [UInt32] = [0, 16, 4, 20, 8, 24, 12, 28]
  /// Columns whose words are in memory at a time: their values are one cache line of a row.
  private static let width = 16

  /// - Parameters:
  ///   - weight: the name that the weight would have if it were not quantised, "….weight"
  ///   - groupSize: columns that share a scale; `nil` for all
  /// - Throws: `ModelError` naming the tensor that is missing or does not fit
  init(_ weight: String, shape: [Int], groupSize: Int?, in folder: SafetensorsFolder) throws {
    let module = String(weight.dropLast(".weight".count))
    let (rows, columns) = (shape[0], shape[1])
    let size = groupSize ?? columns
    guard rows % Self.packed == 0, columns % size == 0 else {
      throw ModelError(
        folder.subject(module + ".qweight"), module + ".qweight",
        reason: "\(shape) is no whole number of words of 8 rows and groups of \(size) columns")
    }
    codes = try StoredTensor(module + ".qweight", [.i32], shape: [columns, rows / Self.packed], in: folder)
    scales = try StoredTensor(module + ".scales", StoredTensor.scaleTypes, shape: [columns / size, rows], in: folder)
    zeros = try StoredTensor(module + ".qzeros", [.i32], shape: [columns / size, rows / Self.packed], in: folder)
    self.shape = shape
    self.groupSize = size
    names = [codes.name, scales.name, zeros.name]
  }

  func read(rows: Range<Int>, into destination: UnsafeMutableBufferPointer<Float>) throws {
    try check(rows, destination, codes)
    guard !rows.isEmpty else { return }
    let (count, columns) = (rows.count, shape[1])
    let wordsOfRow = shape[0] / Self.packed
    let firstWord = rows.lowerBound / Self.packed
    let wordCount = (rows.upperBound - 1) / Self.packed + 1 - firstWord
    var scale: [Float] = []
    var zero: [Float] = []
    for group in 0..<columns / groupSize {
      scale += try scales.scales(group * shape[0] + rows.lowerBound..<group * shape[0] + rows.upperBound)
      let first = group * wordsOfRow + firstWord
      let words = try zeros.words(first..<first + wordCount)
      for row in rows { zero.append(Self.code(words[row / Self.packed - firstWord], row)) }
    }
    var words = [UInt32](repeating: 0, count: Self.width * wordCount)
    for first in stride(from: 0, to: columns, by: Self.width) {
      let width = min(Self.width, columns - first)
      try words.withUnsafeMutableBytes { words in
        for part in 0..<width {
          try codes.read(
            first: (first + part) * wordsOfRow + firstWord,
            into: UnsafeMutableRawBufferPointer(rebasing: words[part * wordCount * 4..<(part + 1) * wordCount * 4]))
        }
      }
      for (index, row) in rows.enumerated() {
        for part in 0..<width {
          let code = Self.code(words[part * wordCount + row / Self.packed - firstWord], row)
          let place = (first + part) / groupSize * count + index
          destination[index * columns + first + part] = (code - zero[place]) * scale[place]
        }
      }
    }
  }

  @inline(__always)
  private static func code(_ word: UInt32, _ row: Int) -> Float { Float(word &>> shifts[row % packed] & 15) }
}
