extension StringProtocol {
  /// The beginning of a text, for an error message or a log line: at most this many bytes, cut between scalars, with
  /// control characters escaped. A client's text can have any length, and even a single character can have megabytes.
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
