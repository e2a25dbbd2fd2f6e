import TestSupport
import Testing

@testable import Kernels

/// LoRA's products against the scalar reference and the definition, with ranks of any size.
@Suite struct LowRankTests {
  private struct Inputs {
    let base: Product
    let modules: [(module: LowRankFactors, a: [Float], b: [Float])]
    let updates: [LowRankUpdate]
    let rows: Int

    /// Modules of 40 outputs, each in 48 outputs of the matrix. Each begins at a later row than the one before.
    init(ranks: [Int], rows: Int, element: LowRankFactors.Element, hasRowFactors: Bool, columns: Int = 64) {
      var random = TinyRandom(seed: UInt64(ranks.reduce(rows, +)))
      self.rows = rows
      base = .nf4(outputs: 48 * ranks.count, columns: columns, block: 64, rows: rows, seed: 3)
      var modules: [(module: LowRankFactors, a: [Float], b: [Float])] = []
      var updates: [LowRankUpdate] = []
      for (index, rank) in ranks.enumerated() {
        // bf16 holds these values exactly, so both element types have the same expected result.
        let a = random.floats(rank * columns).map { Float(Int($0 * 64)) / 64 }
        let b = random.floats(40 * rank).map { Float(Int($0 * 64)) / 64 }
        let factors = hasRowFactors ? random.floats(40).map { $0 + 1 } : nil
        let module = LowRankFactors(
          a: a, b: b, rank: rank, columns: columns, outputs: 40, element: element, rowFactors: factors)
        modules.append((module, a, b))
        let first = rows * index / (ranks.count + 1)
        updates.append(LowRankUpdate(module, rows: first..<rows, offset: index * 48, scale: 0.5, weight: 0.25))
      }
      self.modules = modules
      self.updates = updates
    }

    func run(_ compute: Compute, epilogue: LinearEpilogue = .none) -> [Float] {
      var y = [Float](repeating: .nan, count: rows * base.matrix.paddedOutputs)
      var scratch = LinearScratch(rows: rows, columns: base.columns)
      compute.linear(base.matrix, base.x, rows: rows, updates: updates, epilogue: epilogue, scratch: &scratch, into: &y)
      return y
    }
  }

  private func compute(_ set: InstructionSet, threads: Int = 1) throws -> Compute {
    Compute(kernels: try #require(KernelSet(set)), pool: ThreadPool(threads: threads))
  }

  @Test(arguments: [LowRankFactors.Element.f32, .bf16], [false, true])
  func everyInstructionSetGivesTheSameBits(element: LowRankFactors.Element, hasRowFactors: Bool) throws {
    for (ranks, rows) in [
      ([1], 1), ([8, 16], 3), ([3, 17, 40], 16), ([64], 7), ([5, 256], 33), ([7, 9, 15, 33], 130),
    ] {
      let inputs = Inputs(ranks: ranks, rows: rows, element: element, hasRowFactors: hasRowFactors)
      for set in ParityTests.vectorSets {
        let wanted = bits(inputs.run(try compute(.scalar)))
        #expect(bits(inputs.run(try compute(set))) == wanted, "\(ranks), \(rows) rows, \(set)")
        #expect(bits(inputs.run(try compute(set, threads: 3))) == wanted)
      }
    }
  }

  @Test(arguments: [LowRankFactors.Element.f32, .bf16], [1, 2, 8, 17, 256])
  func theSumIsTheMathematicalOne(element: LowRankFactors.Element, rank: Int) throws {
    for hasRowFactors in [false, true] {
      let inputs = Inputs(ranks: [rank], rows: 4, element: element, hasRowFactors: hasRowFactors)
      let compute = try compute(.scalar)
      let bare = inputs.base.run(compute, rows: 4)
      let result = inputs.run(compute)
      let (_, a, b) = inputs.modules[0]
      var random = TinyRandom(seed: UInt64(rank + 4))
      _ = random.floats(rank * 64 + 40 * rank)
      let factors = hasRowFactors ? random.floats(40).map { Double($0 + 1) } : [Double](repeating: 1, count: 40)
      for row in 0..<4 {
        for output in 0..<40 {
          var sum = 0.0
          for r in 0..<rank {
            let u = (0..<64).reduce(0.0) { $0 + Double(a[r * 64 + $1]) * Double(inputs.base.x[row * 64 + $1]) }
            sum += Double(b[output * rank + r]) * u
          }
          let base = Double(bare[row * 48 + output])
          let expected = base + 0.5 * factors[output] * sum + 0.25 * (factors[output] - 1) * base
          #expect(
            abs(Double(result[row * 48 + output]) - expected) < 1e-5 * (1 + abs(expected)) * Double(rank + 1))
        }
      }
    }
  }

  /// An epilogue that runs range by range gives the bits that the same operation gives after the whole product.
  @Test(arguments: ParityTests.vectorSets, [1, 5, 40])
  func epilogueChangesNoBit(set: InstructionSet, rows: Int) throws {
    let compute = try compute(set, threads: 2)
    let inputs = Inputs(ranks: [4, 9], rows: rows, element: .bf16, hasRowFactors: false)
    let plain = inputs.run(compute)
    let start = (0..<rows * 90).map { Float($0 % 7) }
    var sum = start
    sum.withUnsafeMutableBufferPointer { _ = inputs.run(compute, epilogue: .add(to: $0.baseAddress!, size: 90)) }
    var activated = [Float](repeating: .nan, count: rows * 40)
    activated.withUnsafeMutableBufferPointer {
      _ = inputs.run(compute, epilogue: .gated(up: 48, size: 40, into: $0.baseAddress!))
    }
    for row in 0..<rows {
      let outputs = Array(plain[row * 96..<(row + 1) * 96])
      #expect(bits(Array(sum[row * 90..<(row + 1) * 90])) == bits((0..<90).map { start[row * 90 + $0] + outputs[$0] }))
      var expected = [Float](repeating: 0, count: 40)
      compute.swiglu(gate: outputs, up: Array(outputs[48...]), count: 40, into: &expected)
      #expect(bits(Array(activated[row * 40..<(row + 1) * 40])) == bits(expected))
    }
  }

  /// Updates that find no room at a time take turns. They give the same bits, and the memory does not grow with their number.
  @Test(arguments: ParityTests.vectorSets, [ComputeMode.f32, .fast])
  func updatesInTurnsChangeNoBit(set: InstructionSet, mode: ComputeMode) throws {
    let (columns, rows, ranks) = (64, 5, [3, 40, 16, 1, 100, 17, 16])
    var random = TinyRandom(seed: 9)
    let base = Product.nf4(outputs: 96, columns: columns, block: 64, rows: rows, seed: 3)
    let bias = random.floats(96)
    let modules = ranks.enumerated().map { index, rank in
      LowRankFactors(
        a: random.floats(rank * columns), b: random.floats(40 * rank), rank: rank, columns: columns, outputs: 40,
        element: .bf16, rowFactors: index % 3 == 1 ? random.floats(40).map { $0 + 1 } : nil)
    }
    // All on the same rows but the first, in both halves of the matrix.
    let updates = modules.indices.flatMap { index in
      [0, 48].map {
        LowRankUpdate(modules[index], rows: index == 0 ? 1..<3 : 0..<rows, offset: $0, scale: 0.5, weight: 0.25)
      }
    }
    let compute = Compute(
      kernels: try #require(KernelSet(set)), pool: ThreadPool(threads: 2), mode: mode)
    func run(ranks: Int, _ epilogue: LinearEpilogue = .none) -> (y: [UInt32], floats: Int) {
      var y = [Float](repeating: .nan, count: rows * 96)
      var scratch = LinearScratch(rows: rows, columns: columns, ranks: ranks)
      compute.linear(
        base.matrix, bias: bias, base.x, rows: rows, updates: updates, epilogue: epilogue, scratch: &scratch, into: &y)
      return (bits(y), scratch.shrunk.count)
    }
    func activated(ranks: Int) -> [UInt32] {
      var out = [Float](repeating: .nan, count: rows * 40)
      out.withUnsafeMutableBufferPointer {
        _ = run(ranks: ranks, .gated(up: 48, size: 40, into: $0.baseAddress!))
      }
      return bits(out)
    }
    let whole = run(ranks: 4096)
    #expect(whole.floats > rows * 300)
    for few in [1, 16, 112, 200] {
      let turns = run(ranks: few)
      // Padded, the largest rank is 112.
      #expect(turns.y == whole.y && turns.floats <= rows * max(few, 112), "\(few): \(turns.floats)")
      #expect(activated(ranks: few) == activated(ranks: 4096))
    }
    withExtendedLifetime(modules) {}
  }

  @Test func roundingToBF16IsToNearest() {
    #expect(LowRankFactors.bf16(1) == 0x3F80 && LowRankFactors.bf16(-2) == 0xC000 && LowRankFactors.bf16(0) == 0)
    // Halfway goes to the even neighbour, a hair above it up.
    #expect(LowRankFactors.bf16(Float(bitPattern: 0x3F80_8000)) == 0x3F80)
    #expect(LowRankFactors.bf16(Float(bitPattern: 0x3F81_8000)) == 0x3F82)
    #expect(LowRankFactors.bf16(Float(bitPattern: 0x3F80_8001)) == 0x3F81)
  }

  @Test(arguments: [1, 4, 20])
  func rowFactorsAreMagnitudesOverNorms(rank: Int) throws {
    var random = TinyRandom(seed: 4)
    let (columns, outputs) = (128, 40)
    let nf4 = Product.nf4(outputs: 80, columns: columns, block: 64, rows: 1, seed: 2).matrix
    let dense = Matrix(rowMajor: random.floats(80 * columns), outputs: 80, columns: columns)
    let (a, b) = (random.floats(rank * columns, scale: 0.3), random.floats(outputs * rank))
    let magnitude = random.floats(outputs).map { $0 + 2 }
    for set in InstructionSet.allCases where KernelSet(set) != nil {
      for matrix in [nf4, dense] {
        let compute = try compute(set)
        let factors = compute.rowFactors(
          matrix, rows: 32..<72, a: a, b: b, rank: rank, scale: 1.5, magnitude: magnitude)
        // The weights come out of products with unit vectors.
        var weights = [Float](repeating: 0, count: columns * matrix.paddedOutputs)
        var units = [Float](repeating: 0, count: columns * columns)
        for i in 0..<columns { units[i * columns + i] = 1 }
        var scratch = LinearScratch(rows: columns, columns: columns)
        compute.product(matrix, units, rows: columns, scratch: &scratch, into: &weights)
        for output in 0..<outputs {
          let norm = (0..<columns).reduce(0.0) { sum, column in
            let update = (0..<rank).reduce(0.0) {
              $0 + Double(b[output * rank + $1]) * Double(a[$1 * columns + column])
            }
            let value = Double(weights[column * matrix.paddedOutputs + 32 + output]) + 1.5 * update
            return sum + value * value
          }.squareRoot()
          let expected = Double(magnitude[output]) / norm
          #expect(abs(Double(factors[output]) - expected) < 1e-5 * expected)
        }
      }
    }
  }
}
