/// Why an adapter cannot be had, in one line that names it.
public struct AdapterError: Error, Equatable, Sendable, CustomStringConvertible {
  public enum Kind: Sendable, Equatable {
    /// No adapter, or no such version of it, goes by the name.
    case unknownName
    case badName
    /// The path leads out of the adapters' folder, or there is no such folder.
    case badPath
    /// What is to be loaded is no adapter for this base.
    case refused
    /// Registered for another base.
    case incompatible
    /// What was stored is missing or no longer what it was.
    case damaged
    /// The memory for adapters is taken by requests that run, and by pinned ones.
    case overBudget
    /// The request's own time was over.
    case timedOut
    /// The data folder cannot be read or written.
    case storage
  }

  /// A setting of the server that the error depends on. What reports the error knows what the setting is called.
  public enum Setting: Sendable, Equatable {
    /// The memory for adapters.
    case memory
    /// The folder that adapters are loaded from.
    case folder
  }

  public let kind: Kind
  public let description: String
  public let setting: Setting?

  public init(_ kind: Kind, _ description: String, setting: Setting? = nil) {
    self.kind = kind
    self.description = description
    self.setting = setting
  }
}
