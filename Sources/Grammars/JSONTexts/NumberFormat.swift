import Formats

/// A format of numbers in OpenAPI's registry.
struct NumberFormat {
  /// The numbers of the format, which are whole; `nil` where the format says nothing of a number's value.
  let bounds: NumberBounds?
  /// The strings of the format. The registry has whole numbers of 64 bits as strings, too, since many readers take numbers for
  /// doubles; the other formats say nothing of strings.
  let texts: TextExpression

  private static let ranges: [String: (least: String, most: String)] = [
    "int8": ("\(Int8.min)", "\(Int8.max)"), "uint8": ("0", "\(UInt8.max)"),
    "int16": ("\(Int16.min)", "\(Int16.max)"), "uint16": ("0", "\(UInt16.max)"),
    "int32": ("\(Int32.min)", "\(Int32.max)"), "uint32": ("0", "\(UInt32.max)"),
    "int64": ("\(Int64.min)", "\(Int64.max)"), "uint64": ("0", "\(UInt64.max)"),
  ]

  /// - Parameter name: such as "int32"; `nil` for names of other formats
  init?(_ name: String) {
    if ["float", "double"].contains(name) {
      bounds = nil
      texts = .anything
      return
    }
    guard let range = Self.ranges[name] else { return nil }
    func bound(_ text: String) -> NumberBounds.Bound {
      NumberBounds.Bound(number: DecimalNumber(.decimal(text)) ?? .zero, isExclusive: false)
    }
    let bounds = NumberBounds(lower: bound(range.least), upper: bound(range.most))
    self.bounds = bounds
    texts = name.hasSuffix("64") ? NumberExpression.within(bounds, whole: true, fractional: false) : .anything
  }
}
