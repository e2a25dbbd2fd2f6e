public import Model

// What errors of the library say to those who run the program: with the flag or the command that helps. The library itself
// does not know the command line.

extension EngineError {
  /// The message, with the flag that the error depends on.
  public var advice: String {
    if case .exceedsCache = self { message + " (see --kv-memory)" } else { message }
  }
}

extension AdapterError {
  /// The description, with the flag that the error depends on.
  public var advice: String {
    switch setting {
    case .memory: description + " (see --adapter-memory)"
    case .folder: description + " (see --adapters)"
    case nil: description
    }
  }
}

extension UnrecordedContentsError {
  /// The description, with what can be done.
  public var advice: String {
    description + ". Put the database back that belongs here, give another --data-dir, or run 'graft adapters prune "
      + "--data-dir \(path)', which deletes for good what no record names"
  }
}

/// How those who run the server can allow what `AccessPolicy` refuses.
enum AccessAdvice {
  static let anotherSite = "--allowed-origins can allow a site"
  static let origin = "--allowed-origins can allow it"
  static let host = "--allowed-host can allow it, or --api-key any host"
}
