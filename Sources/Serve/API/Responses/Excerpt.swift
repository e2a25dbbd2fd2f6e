extension StringProtocol {
  /// The text's beginning for a message or a log line: at most so many bytes, on whole scalars, with control characters
  /// spelt out. What clients send has any length, and one character may have megabytes.
  func excerpt(_ maximumBytes: Int) -> String {
    var result = ""
    var bytes = 0
    for scalar in unicodeScalars {
      bytes += UTF8.width(scalar)
      guard bytes <= maximumBytes else { return result + "…" }
      if scalar.properties.generalCategory == .control {
        result += scalar.escaped(asASCII: true)
      } else {
        result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}
