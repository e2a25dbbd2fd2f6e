import Kernels
import TestSupport
import Testing

/// Training's products in bf16 on tile registers: against those in f32, divided in other ways, and bit for bit against the
/// reference in plain C. Where the processor has no tile registers, Tests/Emulated does the last.
@Suite struct TileTrainingTests {
  private static let sets = [InstructionSet.tileReference, .amx].filter { KernelSet($0) != nil }

  private func compute(_ set: InstructionSet, threads: Int = 1, mode: ComputeMode = .fast) throws -> Compute {
    Compute(kernels: try #require(KernelSet(set)), pool: ThreadPool(threads: threads), mode: mode)
  }

  /// dx of the first `outputs` outputs, [rows][columns].
  private func backward(
    _ compute: Compute, _ matrix: Matrix, _ dy: [Float], rows: Int, outputs: Int, operations: Int
  ) -> [Float] {
    let packed = PackedGradient(count: PackedGradient.count(rows: rows, outputs: outputs))
    let gradient = AlignedBuffer<Float>(count: dy.count)
    gradient.pointer.update(from: dy, count: dy.count)
    let dx = AlignedBuffer<Float>(count: rows * matrix.columns)
    let dyRows = Rows(gradient.pointer, stride: matrix.paddedOutputs)
    if compute.packsGradients(of: matrix) {
      compute.packGradient(dyRows, rows: rows, outputs: outputs, into: packed)
    }
    for part in compute.backwardParts(matrix, outputs: outputs, rows: rows, operations: operations) {
      compute.productBackward(
        matrix, part: part, outputs: outputs, dy: dyRows, packed: packed, rows: rows,
        into: Rows(dx.pointer, stride: matrix.columns))
    }
    return withExtendedLifetime(gradient) { Array(dx.buffer) }
  }

  private func distance(_ a: [Float], _ b: [Float]) -> Float {
    let difference = zip(a, b).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
    return (difference / b.reduce(0) { $0 + $1 * $1 }).squareRoot()
  }

  @Test(arguments: sets, [(24, 8), (48, 16), (320, 64)])
  func inputGradientIsNearTheExactOneHoweverItIsDivided(
    set: InstructionSet, shape: (columns: Int, block: Int)
  ) throws {
    for (rows, outputs) in [(1, 600), (15, 37), (40, 600)] {
      var random = TinyRandom(seed: UInt64(rows))
      for product in [
        Product.nf4(outputs: outputs, columns: shape.columns, block: shape.block, rows: 1, seed: 4),
        Product.int8(outputs: outputs, columns: shape.columns, block: shape.block, rows: 1, seed: 5),
      ] {
        let matrix = product.matrix
        let dy = random.floats(rows * matrix.paddedOutputs)
        func run(_ compute: Compute, from first: Int = 0, rows: Int, operations: Int = 1 << 40) -> [Float] {
          backward(
            compute, matrix, Array(dy[(first * matrix.paddedOutputs)...]), rows: rows, outputs: outputs,
            operations: operations)
        }
        let whole = run(try compute(set), rows: rows)
        let exact = run(try compute(set, mode: .f32), rows: rows)
        // A bf16 number is within 1/512 of what is rounded, and errors of both operands meet.
        #expect((1e-5..<4e-3).contains(distance(whole, exact)), "\(distance(whole, exact))")
        #expect(bits(run(try compute(set, threads: 3), rows: rows, operations: 1)) == bits(whole))
        #expect(bits(run(try compute(.tileReference), rows: rows)) == bits(whole))
        let last = run(try compute(set), from: rows - 1, rows: 1)
        #expect(bits(last) == bits(Array(whole.suffix(shape.columns))))
      }
    }
  }

  /// A dense matrix is multiplied in f32 in every mode.
  @Test(arguments: sets) func denseMatricesStayExact(set: InstructionSet) throws {
    var random = TinyRandom(seed: 1)
    let matrix = Matrix(rowMajor: random.floats(40 * 30), outputs: 40, columns: 30)
    let dy = random.floats(3 * matrix.paddedOutputs)
    let results = try ComputeMode.allCases.map { mode in
      bits(backward(try compute(set, mode: mode), matrix, dy, rows: 3, outputs: 40, operations: 1 << 40))
    }
    #expect(Set(results).count == 1)
  }

  /// Products of LoRA: every layout of the operands, threads, and sums over tokens that are divided between groups.
  @Test(arguments: sets, [(50, 8, 70), (8, 50, 70), (1, 1, 1), (33, 17, 40)])
  func productsAreNearTheExactOnes(set: InstructionSet, shape: (m: Int, n: Int, k: Int)) throws {
    let (m, n, k) = shape
    var random = TinyRandom(seed: UInt64(m))
    let (a, b, c) = (random.floats(m * k), random.floats(k * n), random.floats(m * n))
    let buffers = [a, b].map { values in
      let buffer = AlignedBuffer<Float>(count: values.count)
      buffer.pointer.update(from: values, count: values.count)
      return buffer
    }
    for (transposedA, transposedB) in [(false, false), (false, true), (true, false), (true, true)] {
      let (left, right) = (
        Rows(buffers[0].pointer, stride: transposedA ? m : k), Rows(buffers[1].pointer, stride: transposedB ? k : n)
      )
      func run(_ compute: Compute, _ accumulation: Accumulation, _ groups: [Int]?, cut: Int? = nil) -> [Float] {
        let out = AlignedBuffer<Float>(count: m * n)
        out.pointer.update(from: c, count: m * n)
        for range in cut.map({ [0..<$0, $0..<k] }) ?? [0..<k] {
          let first = range.lowerBound
          compute.multiply(
            m: m, n: n, k: range.count, alpha: 0.5, transposedA ? left.from(row: first) : left.from(column: first),
            transposedA: transposedA, transposedB ? right.from(column: first) : right.from(row: first),
            transposedB: transposedB, accumulation: accumulation,
            groups: groups?.filter { range.contains($0) || $0 == range.upperBound }.map { $0 - first },
            into: Rows(out.pointer, stride: n))
        }
        return Array(out.buffer)
      }
      for accumulation in [Accumulation.overwrite, .add, .chain] {
        let whole = run(try compute(set), accumulation, nil)
        let exact = run(try compute(set, mode: .f32), accumulation, nil)
        #expect(distance(whole, exact) < 4e-3 && (k == 1 || whole != exact))
        #expect(bits(run(try compute(set, threads: 3), accumulation, nil)) == bits(whole))
        #expect(bits(run(try compute(.tileReference), accumulation, nil)) == bits(whole))
      }
      let groups = [0, min(k, 20), k / 2, k].reduce(into: [Int]()) { if $1 > $0.last ?? -1 { $0.append($1) } }
      guard k > 1, groups.count > 2 else { continue }
      let divided = zip(groups, groups.dropFirst()).flatMap { Array(stride(from: $0, to: $1, by: 32)) } + [k]
      let chained = run(try compute(set), .chain, divided)
      #expect(bits(run(try compute(set), .chain, divided, cut: groups[1])) == bits(chained))
      #expect(bits(run(try compute(.tileReference), .chain, divided)) == bits(chained))
    }
    withExtendedLifetime(buffers) {}
  }
}
