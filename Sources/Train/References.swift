/// The bare base's −log-likelihoods of the chosen and the rejected answer of DPO's pairs, as they become known.
struct References {
  private var values: [Double]

  init(count: Int) { values = Array(repeating: .nan, count: 2 * count) }

  static func bytes(count: Int) -> Int { 2 * count * MemoryLayout<Double>.size }

  func knows(_ pair: Int) -> Bool { !values[2 * pair].isNaN }

  subscript(pair: Int) -> (chosen: Double, rejected: Double) {
    get { (values[2 * pair], values[2 * pair + 1]) }
    set { (values[2 * pair], values[2 * pair + 1]) = (newValue.chosen, newValue.rejected) }
  }
}
