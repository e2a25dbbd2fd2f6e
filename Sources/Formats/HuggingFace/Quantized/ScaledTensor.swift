/// A weight of 8-bit numbers, each of which is multiplied by a scale: one for the whole matrix, one for each row, or one for
/// each block. Floats are FP8 checkpoints' (`weight_scale` or `weight_scale_inv`, which despite its name is multiplied by),
/// integers are compressed-tensors' `int-quantized` and bitsandbytes' LLM.int8 (Dettmers et al., 2022).
struct ScaledTensor: QuantizedTensor {
  let names: [String]
  let shape: [Int]
  private let codes: StoredTensor
  private let scales: StoredTensor
  /// Subtracted from the codes before they are multiplied, as many as scales; `nil` for none.
  private let zeros: StoredTensor?
  /// Rows and columns that share a scale.
  private let block: (rows: Int, columns: Int)
  /// Multiplies the product of code and scale; `nil` for 1.
  private let factor: Float?

  static let floatTypes: [SafetensorsType] = [.f8E4M3, .f8E5M2]
  /// The names, after the module's, that tensors of scales have.
  static let scaleNames = [".weight_scale_inv", ".weight_scale"]
  /// Tensors of FP8 checkpoints that say how activations are rounded. Graft does not round them.
  private static let activationNames = [".input_scale", ".activation_scale", ".input_scale_ub", ".input_zero_point"]
  /// 1/127, as bitsandbytes multiplies (`int8_vectorwise_dequant`).
  private static let int8Factor: Float = 7.874015718698502e-3

  /// - Parameters:
  ///   - weight: the name of the codes, "….weight"
  ///   - types: those that the codes may have
  ///   - block: rows and columns of a block, if the configuration says them
  /// - Throws: `ModelError` naming the tensor that is missing or does not fit
  init(
    _ weight: String, shape: [Int], types: [SafetensorsType], block: [Int]?, in folder: SafetensorsFolder
  ) throws {
    let module = String(weight.dropLast(".weight".count))
    codes = try StoredTensor(weight, types, shape: shape, in: folder)
    let given = Self.scaleNames.first { folder.tensor(module + $0) != nil }
    scales = try StoredTensor(
      module + (given ?? (block == nil ? ".weight_scale" : ".weight_scale_inv")), StoredTensor.scaleTypes, shape: nil,
      in: folder)
    let zeroName = module + ".weight_zero_point"
    let isInteger = codes.type == .i8
    zeros =
      try isInteger && folder.tensor(zeroName) != nil
      ? StoredTensor(zeroName, [.i8], shape: scales.shape, in: folder) : nil
    self.block = try Self.block(of: scales, shape: shape, given: block)
    self.shape = shape
    factor = nil
    var names = [weight, scales.name]
    if let zeros { names.append(zeros.name) }
    self.names = names + Self.activationNames.map { module + $0 }.filter { folder.tensor($0) != nil }
  }

  /// A weight of bitsandbytes: integers, `SCB`, a scale for each row, and `weight_format`.
  /// - Throws: `ModelError` naming the tensor that is missing or does not fit
  init(bitsAndBytes weight: String, shape: [Int], in folder: SafetensorsFolder) throws {
    let module = String(weight.dropLast(".weight".count))
    codes = try StoredTensor(weight, [.i8], shape: shape, in: folder)
    scales = try StoredTensor(module + ".SCB", StoredTensor.scaleTypes, shape: nil, in: folder)
    block = try Self.block(of: scales, shape: shape, given: nil)
    guard (block.rows == 1 && block.columns == shape[1]) || shape[0] == 1 else {
      throw scales.failure("is not one scale for each row")
    }
    zeros = nil
    factor = Self.int8Factor
    self.shape = shape
    var names = [weight, scales.name]
    let formatName = module + ".weight_format"
    if folder.tensor(formatName) != nil {
      let format = try StoredTensor(formatName, [.u8], shape: nil, in: folder)
      var code: [UInt8] = [0]
      guard format.elementCount == 1 else { throw format.failure("shape \(format.shape) instead of []") }
      try code.withUnsafeMutableBytes { try format.read(first: 0, into: $0) }
      guard code == [0] else { throw format.failure("\(code[0]), another order than by rows, is not supported") }
      names.append(formatName)
    }
    self.names = names
  }

  /// The rows and columns that share a scale, by the shape of the scales.
  private static func block(of scales: StoredTensor, shape: [Int], given: [Int]?) throws -> (rows: Int, columns: Int) {
    let (rows, columns) = (shape[0], shape[1])
    if let given, scales.shape == [(rows + given[0] - 1) / given[0], (columns + given[1] - 1) / given[1]] {
      return (given[0], given[1])
    }
    if scales.elementCount == 1 { return (rows, columns) }
    if scales.shape == [rows] || scales.shape == [rows, 1] { return (1, columns) }
    if scales.shape.count == 2, scales.shape[0] == rows, scales.shape[1] > 0, columns % scales.shape[1] == 0 {
      return (1, columns / scales.shape[1])
    }
    let blocks = given.map { " nor its blocks of \($0)" } ?? ""
    throw scales.failure("shape \(scales.shape) fits neither the matrix of \(shape) nor its rows\(blocks)")
  }

  func read(rows: Range<Int>, into destination: UnsafeMutableBufferPointer<Float>) throws {
    try check(rows, destination, codes)
    let columns = shape[1]
    let scaleColumns = (columns + block.columns - 1) / block.columns
    var bytes = [UInt8](repeating: 0, count: columns)
    var loaded: Int?
    var scale: [Float] = []
    var zero: [Int8] = []
    for (index, row) in rows.enumerated() {
      if loaded != row / block.rows {
        loaded = row / block.rows
        let first = row / block.rows * scaleColumns
        scale = try scales.scales(first..<first + scaleColumns)
        if let zeros {
          zero = [Int8](repeating: 0, count: scaleColumns)
          try zero.withUnsafeMutableBytes { try zeros.read(first: first, into: $0) }
        }
      }
      try bytes.withUnsafeMutableBytes { try codes.read(first: row * columns, into: $0) }
      let target = UnsafeMutableBufferPointer(rebasing: destination[index * columns..<(index + 1) * columns])
      bytes.withUnsafeBytes { bytes in
        switch codes.type {
        case .f8E4M3: FloatConversion.float8(bytes, into: target, FloatConversion.float8E4M3)
        case .f8E5M2: FloatConversion.float8(bytes, into: target, FloatConversion.float8E5M2)
        default: FloatConversion.float8(bytes, into: target) { Float(Int8(bitPattern: $0)) }
        }
      }
      for (part, first) in stride(from: 0, to: columns, by: block.columns).enumerated() {
        let shift = zero.isEmpty ? 0 : Float(zero[part])
        for column in first..<min(first + block.columns, columns) {
          target[column] = (target[column] - shift) * scale[part]
        }
      }
      if let factor { for column in target.indices { target[column] *= factor } }
    }
  }
}
