extension RequestFields {
  /// `timeout`, given in seconds: how long the request may take.
  func timeout() throws(APIError) -> Duration? {
    guard let seconds = try number("timeout", in: 0...86400) else { return nil }
    guard seconds > 0 else {
      throw .invalid("'timeout' must be more than 0 seconds", param: "timeout", code: "invalid_value")
    }
    return .seconds(seconds)
  }
}
