import Kernels
import TestSupport

/// A matrix of random codes or bytes, and rows to multiply it with.
struct Product {
  let matrix: Matrix
  let x: [Float]
  let columns: Int

  init(matrix: Matrix, x: [Float], columns: Int) {
    self.matrix = matrix
    self.x = x
    self.columns = columns
  }

  static func nf4(outputs: Int, columns: Int, block: Int, rows: Int, seed: UInt64) -> Product {
    var random = TinyRandom(seed: seed)
    let codes = AlignedBuffer<UInt8>(count: TileLayout.codeBytes(outputs: outputs, columns: columns))
    for i in 0..<codes.count { codes[i] = UInt8.random(in: 0...255, using: &random) }
    let scale = scales(outputs, columns, block, &random)
    let half = halves(scale)
    return Product(
      matrix: Matrix(
        nf4: codes.pointer, scale: scale.pointer, halfScale: half.scale, outputs: outputs, columns: columns,
        block: block, owner: Both(codes, Both(scale, half.owner))), x: random.floats(rows * columns), columns: columns)
  }

  static func int8(outputs: Int, columns: Int, block: Int, rows: Int, seed: UInt64) -> Product {
    var random = TinyRandom(seed: seed)
    let bytes = AlignedBuffer<Int8>(count: TileLayout.denseCount(outputs: outputs, columns: columns))
    for i in 0..<bytes.count { bytes[i] = Int8.random(in: -127...127, using: &random) }
    let half = halves(scales(outputs, columns, block, &random))
    return Product(
      matrix: Matrix(
        int8: bytes.pointer, scale: half.scale, outputs: outputs, columns: columns, block: block,
        owner: Both(bytes, half.owner)), x: random.floats(rows * columns), columns: columns)
  }

  private static func scales(
    _ outputs: Int, _ columns: Int, _ block: Int, _ random: inout TinyRandom
  ) -> AlignedBuffer<Float> {
    let scale = AlignedBuffer<Float>(count: TileLayout.scaleCount(outputs: outputs, columns: columns, block: block))
    for i in 0..<scale.count { scale[i] = Float.random(in: 0...2, using: &random) }
    return scale
  }

  private static func halves(_ scale: AlignedBuffer<Float>) -> (scale: HalfScale, owner: AlignedBuffer<UInt16>) {
    let (values, exponent) = HalfScale.round(Array(scale.buffer))
    let buffer = AlignedBuffer<UInt16>(count: values.count)
    buffer.pointer.update(from: values, count: values.count)
    return (HalfScale(values: buffer.pointer, exponent: exponent), buffer)
  }

  /// In the compute mode's arithmetic, [rows][padded outputs].
  func run(_ compute: Compute, rows: Int, from first: Int = 0) -> [Float] {
    var y = [Float](repeating: .nan, count: rows * matrix.paddedOutputs)
    var scratch = LinearScratch(rows: rows, columns: columns)
    x[(first * columns)...].withUnsafeBufferPointer { x in
      compute.product(matrix, x.baseAddress!, rows: rows, scratch: &scratch, into: &y)
    }
    return y
  }
}

final class Both<A: Sendable, B: Sendable>: Sendable {
  let a: A
  let b: B
  init(_ a: A, _ b: B) {
    self.a = a
    self.b = b
  }
}
