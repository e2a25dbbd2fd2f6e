import Foundation
import Kernels
import TestSupport
import Testing

/// Every instruction set that this machine runs gives the bits of the scalar one, over shapes that fit no vector.
@Suite struct ParityTests {
  static let vectorSets = InstructionSet.allCases.filter { $0 != .scalar && KernelSet($0) != nil }

  private func compute(_ set: InstructionSet, threads: Int = 1, mode: ComputeMode = .f32) throws -> Compute {
    Compute(kernels: try #require(KernelSet(set)), pool: ThreadPool(threads: threads), mode: mode)
  }

  @Test(arguments: vectorSets, [(8, 8), (24, 8), (48, 16), (96, 32), (64, 64), (192, 64), (1536, 64)])
  func nf4Product(set: InstructionSet, shape: (columns: Int, block: Int)) throws {
    let (scalar, vector) = (try compute(.scalar), try compute(set))
    for rows in [1, 2, 3, 4, 5, 6, 7, 12, 13, 63, 64, 65, 130] {
      let outputs = rows % 2 == 0 ? 16 : 40
      let product = Product.nf4(
        outputs: outputs, columns: shape.columns, block: shape.block, rows: rows, seed: UInt64(rows))
      let expected = product.run(scalar, rows: rows)
      #expect(bits(product.run(vector, rows: rows)) == bits(expected), "\(rows) rows")
      #expect(expected.contains { $0 != 0 })
    }
  }

  /// Products of quantised rows with NF4 and with int8 matrices.
  @Test(arguments: vectorSets, [(8, 8), (24, 8), (48, 16), (96, 32), (64, 64), (192, 64), (1536, 64)])
  func quantizedProducts(set: InstructionSet, shape: (columns: Int, block: Int)) throws {
    let (reference, vector) = (try compute(.scalar, mode: .fast), try compute(set, mode: .fast))
    for rows in [1, 2, 3, 5, 6, 7, 13, 127, 128, 131] {
      let outputs = rows % 2 == 0 ? 16 : 40
      for product in [
        Product.nf4(outputs: outputs, columns: shape.columns, block: shape.block, rows: rows, seed: UInt64(rows)),
        Product.int8(outputs: outputs, columns: shape.columns, block: shape.block, rows: rows, seed: UInt64(rows)),
      ] {
        let expected = product.run(reference, rows: rows)
        #expect(bits(product.run(vector, rows: rows)) == bits(expected), "\(rows) rows")
        #expect(expected.contains { $0 != 0 })
        // A row alone has the bits that it has among others.
        let last = product.run(vector, rows: 1, from: rows - 1)
        #expect(bits(last) == bits(Array(expected.suffix(product.matrix.paddedOutputs))))
      }
    }
  }

  /// Integers differ from an element by up to 1/4095 of its block's largest value, and by far less on average.
  @Test func quantizedProductIsCloseToTheExactOne() throws {
    let product = Product.nf4(outputs: 64, columns: 576, block: 64, rows: 20, seed: 1)
    let exact = product.run(try compute(.scalar), rows: 20)
    let rounded = product.run(try compute(.scalar, mode: .fast), rows: 20)
    let norm = exact.reduce(0) { $0 + $1 * $1 }.squareRoot()
    let error = zip(exact, rounded).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }.squareRoot()
    #expect(error > 0 && error < 3e-4 * norm)
  }

  @Test(arguments: [Float(0), Float(bitPattern: 714), .infinity, .nan])
  func roundingSurvivesAnyValue(value: Float) throws {
    let product = Product.nf4(outputs: 16, columns: 64, block: 64, rows: 1, seed: 1)
    let odd = Product(matrix: product.matrix, x: [Float](repeating: value, count: 64), columns: 64)
    for set in InstructionSet.allCases where KernelSet(set) != nil {
      let y = odd.run(try compute(set, mode: .fast), rows: 1)
      #expect(value.isFinite ? y.allSatisfy { abs($0) < 1e-6 } : y.count == 16)
    }
  }

  /// A value that is not finite makes all outputs of its row not finite, and changes no other row.
  @Test(arguments: [Float.infinity, -.infinity, .nan], ComputeMode.allCases)
  func whatIsNotFiniteStaysSo(value: Float, mode: ComputeMode) throws {
    for product in [
      Product.nf4(outputs: 40, columns: 192, block: 64, rows: 5, seed: 1),
      Product.int8(outputs: 40, columns: 192, block: 64, rows: 5, seed: 2),
    ] {
      var x = product.x
      x[2 * 192 + 100] = value
      let odd = Product(matrix: product.matrix, x: x, columns: 192)
      for set in InstructionSet.allCases where KernelSet(set) != nil {
        let compute = try compute(set, mode: mode)
        let (plain, y) = (product.run(compute, rows: 5), odd.run(compute, rows: 5))
        let width = product.matrix.paddedOutputs
        for row in [0, 1, 3, 4] {
          #expect(
            bits(Array(y[row * width..<(row + 1) * width])) == bits(Array(plain[row * width..<(row + 1) * width])))
        }
        #expect(y[2 * width..<2 * width + 40].allSatisfy { !$0.isFinite }, "\(set)")
      }
    }
  }

  @Test func magnitudesAreFoundWherever() {
    for count in [1, 15, 16, 17, 40] {
      for index in 0..<count {
        var x = [Float](repeating: -1, count: count)
        #expect(Compute.allMagnitudes(of: x, count: count, areAtMost: 1))
        for value in [Float.nan, -.nan, .infinity, -.infinity, 1.5, -1.5] {
          x[index] = value
          #expect(!Compute.allMagnitudes(of: x, count: count, areAtMost: 1))
          #expect(Compute.allMagnitudes(of: x, count: count, areAtMost: 2) == (abs(value) == 1.5))
        }
      }
    }
  }

  /// Bytes times their scale are within half a step of the values that were rounded.
  @Test func bytesAreNearestToTheirValues() {
    var random = TinyRandom(seed: 8)
    let columns = 128
    let values = random.floats(columns * tileLanes)
    var bytes = [Int8](repeating: 0, count: values.count)
    var scale = [Float](repeating: 0, count: columns / 64 * tileLanes)
    TileLayout.quantizeGroup(values, columns: columns, block: 64, bytes: &bytes, scale: &scale)
    for column in 0..<columns {
      for lane in 0..<tileLanes {
        let step = scale[column / 64 * tileLanes + lane]
        let byte = bytes[(column / 2 * tileLanes + lane) * 2 + column % 2]
        #expect(abs(Float(byte) * step - values[column * tileLanes + lane]) <= step * 0.50001)
      }
    }
  }

  @Test(arguments: vectorSets, [1, 3, 16, 31, 63, 64, 65, 130, 256, 577])
  func denseProduct(set: InstructionSet, columns: Int) throws {
    let (scalar, vector) = (try compute(.scalar), try compute(set))
    for rows in [1, 2, 5, 6, 11, 66] {
      var random = TinyRandom(seed: UInt64(columns * 1000 + rows))
      let matrix = Matrix(rowMajor: random.floats(37 * columns), outputs: 37, columns: columns)
      let product = Product(matrix: matrix, x: random.floats(rows * columns), columns: columns)
      #expect(bits(product.run(vector, rows: rows)) == bits(product.run(scalar, rows: rows)), "\(rows) rows")
    }
  }

  /// The scalar product against sums in double precision, with weights that `NF4` decodes.
  @Test func scalarProductIsTheMathematicalOne() throws {
    let (rows, columns, outputs) = (3, 192, 20)
    let scalar = try compute(.scalar)
    var random = TinyRandom(seed: 5)
    let weights = random.floats(outputs * columns)
    let (packed, absmax) = try NF4.quantize(weights)
    let exact = NF4.dequantize(packed: packed, absmax: absmax, count: weights.count)
    let x = random.floats(rows * columns)
    let tiles = AlignedBuffer<UInt8>(count: TileLayout.codeBytes(outputs: outputs, columns: columns))
    let scale = AlignedBuffer<Float>(count: TileLayout.scaleCount(outputs: outputs, columns: columns, block: 64))
    for group in 0..<2 {
      let members = min(16, outputs - group * 16)
      let codes = (0..<members * columns).map { i -> UInt8 in
        let element = group * 16 * columns + i
        return element % 2 == 0 ? packed[element / 2] >> 4 : packed[element / 2] & 15
      }
      TileLayout.packGroup(codes: codes, rows: members, columns: columns, tile: tiles.pointer + group * columns * 8)
      var back = [UInt8](repeating: 99, count: codes.count)
      TileLayout.unpackGroup(tile: tiles.pointer + group * columns * 8, rows: members, columns: columns, codes: &back)
      #expect(back == codes)
      for lane in 0..<members {
        for block in 0..<3 { scale[(group * 3 + block) * 16 + lane] = absmax[(group * 16 + lane) * 3 + block] }
      }
    }
    let matrix = Matrix(
      nf4: tiles.pointer, scale: scale.pointer, halfScale: nil, outputs: outputs, columns: columns, block: 64,
      owner: Both(tiles, scale))
    let y = Product(matrix: matrix, x: x, columns: columns).run(scalar, rows: rows)
    for row in 0..<rows {
      for output in 0..<outputs {
        let sum = (0..<columns).reduce(0.0) {
          $0 + Double(exact[output * columns + $1]) * Double(x[row * columns + $1])
        }
        #expect(abs(Double(y[row * matrix.paddedOutputs + output]) - sum) < 1e-5)
      }
    }
  }

  @Test(arguments: vectorSets, [1, 7, 15, 16, 17, 100, 576, 1500])
  func elementwise(set: InstructionSet, n: Int) throws {
    var random = TinyRandom(seed: UInt64(n))
    let (a, b) = (random.floats(2 * n, scale: 20), random.floats(2 * n))
    func run(_ compute: Compute) -> [Float] {
      var out = [Float](repeating: 0, count: 2 * n)
      compute.rmsNorm(a, weight: b, epsilon: 1e-5, rows: 2, size: n, into: &out)
      var all = out
      compute.swiglu(gate: a, up: b, count: 2 * n, into: &out)
      all += out
      compute.gated(.geluTanh, gate: a, up: b, ld: n, rows: 2, size: n, into: &out)
      all += out
      out = a
      out.withUnsafeMutableBufferPointer {
        compute.softCap(Rows($0.baseAddress!, stride: n), 3, rows: 2, columns: n)
      }
      all += out
      let sum = compute.expSum(a, count: n, maximum: 20, factor: 1.3, into: &out)
      return all + out[..<n] + [Float(sum)]
    }
    #expect(bits(run(try compute(set))) == bits(run(try compute(.scalar))))
  }

  @Test func swigluAndNormAreTheMathematicalOnes() throws {
    let scalar = try compute(.scalar)
    var random = TinyRandom(seed: 3)
    let n = 100
    let (a, b) = (random.floats(n, scale: 30), random.floats(n))
    var out = [Float](repeating: 0, count: n)
    scalar.swiglu(gate: a, up: b, count: n, into: &out)
    for i in 0..<n {
      let expected = Double(a[i]) / (1 + exp(-Double(a[i]))) * Double(b[i])
      #expect(abs(Double(out[i]) - expected) <= 1e-6 * max(abs(expected), 1e-6))
    }
    scalar.rmsNorm(a, weight: b, epsilon: 1e-5, rows: 1, size: n, into: &out)
    let mean = a.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(n)
    for i in 0..<n {
      let expected = Double(a[i]) / (mean + 1e-5).squareRoot() * Double(b[i])
      #expect(abs(Double(out[i]) - expected) <= 1e-6 * max(abs(expected), 1e-3))
    }
  }

  @Test(
    arguments: vectorSets, [(6, 2, 64), (9, 3, 64), (5, 5, 24), (8, 1, 128), (4, 2, 80), (8, 2, 20)])
  func attention(set: InstructionSet, shape: (heads: Int, keyValueHeads: Int, size: Int)) throws {
    for element in KeyValueLayout.Element.allCases {
      let layout = KeyValueLayout(
        headCount: shape.heads, keyValueHeadCount: shape.keyValueHeads, headSize: shape.size, layerCount: 2,
        element: element)
      let inputs = AttentionInputs(layout, positions: 71, seed: 9)
      let whole = inputs.run(try compute(.scalar), chunks: [71])
      #expect(bits(inputs.run(try compute(set), chunks: [71])) == bits(whole))
      // Computing in chunks and on two threads changes no bit.
      #expect(bits(inputs.run(try compute(set, threads: 2), chunks: [1, 30, 3, 37])) == bits(whole))
      let error = inputs.largestError(of: whole)
      switch element {
      case .f32: #expect(error < 2e-6)
      case .f16: #expect((1e-5..<2e-3).contains(error))
      case .int8: #expect(error < 2e-3)
      case .int16: #expect((1e-5..<1e-3).contains(error))
      }
    }
  }

  /// Windows shorter and longer than a block, and soft caps: for all sets, chunks and threads the reference's bits.
  @Test(arguments: vectorSets, [(window: 1, cap: nil), (7, nil), (45, 1.5), (nil, 1.5), (130, 20)] as [(Int?, Float?)])
  func attentionByRules(set: InstructionSet, rule: (window: Int?, cap: Float?)) throws {
    for element in KeyValueLayout.Element.allCases {
      let layout = KeyValueLayout(headCount: 4, keyValueHeadCount: 2, headSize: 64, layerCount: 2, element: element)
      let inputs = AttentionInputs(
        layout, positions: 150, seed: 11,
        rule: AttentionRule(scale: 0.2, softCap: rule.cap, window: rule.window, rotarySize: 64))
      let whole = inputs.run(try compute(.scalar), chunks: [150])
      #expect(bits(inputs.run(try compute(set), chunks: [150])) == bits(whole))
      #expect(bits(inputs.run(try compute(set, threads: 2), chunks: [1, 60, 3, 86])) == bits(whole))
      #expect(inputs.largestError(of: whole) < (element == .f32 ? 4e-6 : element == .int8 ? 1e-2 : 2e-3))
    }
  }

  /// A window over several spans, and beginning within one.
  @Test(arguments: vectorSets, KeyValueLayout.Element.allCases)
  func longWindows(set: InstructionSet, element: KeyValueLayout.Element) throws {
    let layout = KeyValueLayout(headCount: 2, keyValueHeadCount: 1, headSize: 16, layerCount: 2, element: element)
    for window in [40, 700] {
      let inputs = AttentionInputs(
        layout, positions: 1300, seed: 12, rule: AttentionRule(scale: 0.3, window: window, rotarySize: 16))
      let whole = inputs.run(try compute(.scalar), chunks: [1300])
      #expect(bits(inputs.run(try compute(set, threads: 2), chunks: [1200, 1, 1, 1, 40, 1, 56])) == bits(whole))
    }
  }

  /// Longer than a span: tiles of rows, rows alone and spans on two threads give the reference's bits.
  @Test(arguments: vectorSets, [(3, 1, 32), (4, 2, 40), (16, 1, 16)])
  func longAttention(set: InstructionSet, shape: (heads: Int, keyValueHeads: Int, size: Int)) throws {
    for element in KeyValueLayout.Element.allCases {
      let layout = KeyValueLayout(
        headCount: shape.heads, keyValueHeadCount: shape.keyValueHeads, headSize: shape.size, layerCount: 2,
        element: element)
      let inputs = AttentionInputs(layout, positions: 560, seed: 10)
      let whole = inputs.run(try compute(.scalar), chunks: [560])
      #expect(bits(inputs.run(try compute(set, threads: 2), chunks: [560])) == bits(whole))
      #expect(bits(inputs.run(try compute(set, threads: 2), chunks: [500, 1, 10, 1, 1, 22, 1, 1, 23])) == bits(whole))
      if element == .f32, shape.heads == 3 { #expect(inputs.largestError(of: whole) < 2e-6) }
    }
  }
}
