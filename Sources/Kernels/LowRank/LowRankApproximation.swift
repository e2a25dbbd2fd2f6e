#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A matrix's nearest matrix of a given rank, B·A, found by a randomised singular value decomposition with power iterations
/// (Halko, Martinsson and Tropp, 2011).
///
/// Both factors carry the square roots of the singular values, so neither is much larger than the other.
public struct LowRankApproximation: Sendable {
  /// [rank, columns]; rows beyond the matrix's own rank are zeros.
  public let a: [Float]
  /// [rows, rank]
  public let b: [Float]
  /// The share of the matrix's sum of squares that B·A has, 0 ... 1; 1 for a matrix of zeros.
  public let kept: Double

  /// Vectors beyond the rank, with which the subspace is found.
  private static let oversampling = 10
  private static let iterations = 4

  /// - Parameters:
  ///   - matrix: [rows, columns], finite
  ///   - seed: of the random vectors that the search begins with; equal seeds give equal results on one machine
  public init(_ matrix: [Float], rows: Int, columns: Int, rank: Int, seed: UInt64 = 0) {
    precondition(matrix.count == rows * columns && rank > 0)
    let total = matrix.reduce(0.0) { $0 + Double($1) * Double($1) }
    let width = min(rank + Self.oversampling, rows, columns)
    guard total > 0 else {
      a = [Float](repeating: 0, count: rank * columns)
      b = [Float](repeating: 0, count: rows * rank)
      kept = 1
      return
    }
    // Vectors are kept as rows: left ones are [width, rows], right ones [width, columns].
    var right = Self.gaussian(width * columns, seed: seed)
    var left = [Float](repeating: 0, count: width * rows)
    for iteration in 0...Self.iterations {
      Self.product(right, matrix, isTransposed: true, width, columns, rows, into: &left)
      Self.orthonormalize(&left, count: width, length: rows)
      Self.product(left, matrix, isTransposed: false, width, rows, columns, into: &right)
      if iteration < Self.iterations { Self.orthonormalize(&right, count: width, length: columns) }
    }
    // `right` is now leftᵀ · matrix. Its singular values are those of the matrix, within the subspace.
    let (squares, vectors) = SymmetricEigen.decompose(Self.gram(right, count: width, length: columns), size: width)
    var a = [Float](repeating: 0, count: rank * columns)
    var b = [Float](repeating: 0, count: rows * rank)
    var keptSquares = 0.0
    for index in 0..<min(rank, width) where squares[index] > total * 1e-14 {
      keptSquares += squares[index]
      let root = squares[index].squareRoot().squareRoot()
      for vector in 0..<width {
        let share = vectors[vector * width + index]
        let (toA, toB) = (Float(share / root), Float(share * root))
        for column in 0..<columns { a[index * columns + column] += toA * right[vector * columns + column] }
        for row in 0..<rows { b[row * rank + index] += toB * left[vector * rows + row] }
      }
    }
    (self.a, self.b, kept) = (a, b, min(keptSquares / total, 1))
  }

  /// result = vectors · matrixᵀ, or vectors · matrix.
  /// - Parameters:
  ///   - vectors: [count, length]
  ///   - matrix: [size, length] if it is transposed, or [length, size]
  ///   - result: [count, size]
  private static func product(
    _ vectors: [Float], _ matrix: [Float], isTransposed: Bool, _ count: Int, _ length: Int, _ size: Int,
    into result: inout [Float]
  ) {
    vectors.withUnsafeBufferPointer { vectors in
      matrix.withUnsafeBufferPointer { matrix in
        result.withUnsafeMutableBufferPointer { result in
          guard let a = vectors.baseAddress, let b = matrix.baseAddress, let c = result.baseAddress else { return }
          OpenBLASProduct.multiply(
            m: count, n: size, k: length, alpha: 1, Rows(UnsafeMutablePointer(mutating: a), stride: length),
            transposed: false, Rows(UnsafeMutablePointer(mutating: b), stride: isTransposed ? length : size),
            transposed: isTransposed, beta: 0, into: Rows(c, stride: size))
        }
      }
    }
  }

  /// Makes vectors orthonormal by Gram and Schmidt's method, each vector twice; those that depend on others become zeros.
  private static func orthonormalize(_ vectors: inout [Float], count: Int, length: Int) {
    vectors.withUnsafeMutableBufferPointer { buffer in
      guard let start = buffer.baseAddress else { return }
      for index in 0..<count {
        let vector = start + index * length
        let before = dot(vector, vector, length)
        for _ in 0..<2 {
          for other in 0..<index {
            let share = Float(dot(start + other * length, vector, length))
            for i in 0..<length { vector[i] -= share * start[other * length + i] }
          }
        }
        let after = dot(vector, vector, length)
        let factor = after > before * 1e-12 ? Float(1 / after.squareRoot()) : 0
        for i in 0..<length { vector[i] *= factor }
      }
    }
  }

  /// The products of all pairs of vectors, [count, count].
  private static func gram(_ vectors: [Float], count: Int, length: Int) -> [Double] {
    var products = [Double](repeating: 0, count: count * count)
    vectors.withUnsafeBufferPointer { buffer in
      guard let start = buffer.baseAddress else { return }
      for i in 0..<count {
        for j in 0...i {
          let product = dot(start + i * length, start + j * length, length)
          products[i * count + j] = product
          products[j * count + i] = product
        }
      }
    }
    return products
  }

  private static func dot(_ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ count: Int) -> Double {
    var sums = SIMD8<Double>(repeating: 0)
    var index = 0
    while index + 8 <= count {
      let x = UnsafeRawPointer(a + index).loadUnaligned(as: SIMD8<Float>.self)
      let y = UnsafeRawPointer(b + index).loadUnaligned(as: SIMD8<Float>.self)
      sums += SIMD8<Double>(x) * SIMD8<Double>(y)
      index += 8
    }
    var sum = sums.sum()
    while index < count {
      sum += Double(a[index]) * Double(b[index])
      index += 1
    }
    return sum
  }

  /// Normally distributed numbers (Box and Muller, 1958).
  private static func gaussian(_ count: Int, seed: UInt64) -> [Float] {
    var random = CounterRandom(seed: seed, counter: 0)
    return (0..<count).map { _ in
      let radius = (-2 * log(1 - random.unit())).squareRoot()
      return Float(radius * cos(2 * .pi * random.unit()))
    }
  }
}

/// The eigenvalues of symmetric matrices, by Jacobi's rotations.
enum SymmetricEigen {
  private static let maximumSweeps = 60

  /// - Parameter matrix: [size, size]
  /// - Returns: the eigenvalues in descending order, and their vectors as the columns of [size, size]
  static func decompose(_ matrix: [Double], size: Int) -> (values: [Double], vectors: [Double]) {
    var m = matrix
    var v = (0..<size * size).map { $0 / size == $0 % size ? 1.0 : 0 }
    let total = matrix.reduce(0) { $0 + $1 * $1 }
    for _ in 0..<maximumSweeps {
      var rest = 0.0
      for i in 0..<size { for j in 0..<i { rest += m[i * size + j] * m[i * size + j] } }
      if rest <= total * 1e-26 { break }
      for p in 0..<size { for q in (p + 1)..<max(size, p + 1) { rotate(&m, &v, p, q, size) } }
    }
    let order = (0..<size).sorted { m[$0 * size + $0] > m[$1 * size + $1] }
    var vectors = v
    for row in 0..<size { for (index, old) in order.enumerated() { vectors[row * size + index] = v[row * size + old] } }
    return (order.map { m[$0 * size + $0] }, vectors)
  }

  /// Makes the element (p, q) zero.
  private static func rotate(_ m: inout [Double], _ v: inout [Double], _ p: Int, _ q: Int, _ size: Int) {
    let element = m[p * size + q]
    guard element != 0 else { return }
    let ratio = (m[q * size + q] - m[p * size + p]) / (2 * element)
    let tangent = (ratio < 0 ? -1 : 1) / (abs(ratio) + (ratio * ratio + 1).squareRoot())
    let cosine = 1 / (tangent * tangent + 1).squareRoot()
    let sine = tangent * cosine
    for k in 0..<size {
      let (x, y) = (m[k * size + p], m[k * size + q])
      m[k * size + p] = cosine * x - sine * y
      m[k * size + q] = sine * x + cosine * y
    }
    for k in 0..<size {
      let (x, y) = (m[p * size + k], m[q * size + k])
      m[p * size + k] = cosine * x - sine * y
      m[q * size + k] = sine * x + cosine * y
      let (a, b) = (v[k * size + p], v[k * size + q])
      v[k * size + p] = cosine * a - sine * b
      v[k * size + q] = sine * a + cosine * b
    }
  }
}
