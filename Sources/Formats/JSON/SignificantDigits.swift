/// The sign, the digits and the exponent of a decimal number. They are equal if and only if the numbers are.
struct SignificantDigits: Equatable {
  private let isNegative: Bool
  /// Without zeros at the ends; none for zero.
  private let digits: [UInt8]
  /// Of the first digit's place; `nil` if it is beyond all that doubles have.
  private let exponent: Int?

  /// - Parameter text: a number in JSON
  init(_ text: String) {
    let parts = text.split { $0 == "e" || $0 == "E" }
    let mantissa = parts[0].utf8
    var digits = mantissa.filter { $0 >= UInt8(ascii: "0") }
    let places = mantissa.split(separator: UInt8(ascii: "."))[0].count { $0 >= UInt8(ascii: "0") }
    let zeros = digits.prefix { $0 == UInt8(ascii: "0") }.count
    digits.removeFirst(zeros)
    while digits.last == UInt8(ascii: "0") { digits.removeLast() }
    isNegative = text.hasPrefix("-") && !digits.isEmpty
    self.digits = digits
    let written = parts.count > 1 ? Int32(parts[1]).map(Int.init) : 0
    exponent = digits.isEmpty ? 0 : written.map { $0 + places - zeros }
  }
}
