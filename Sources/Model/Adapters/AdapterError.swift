/// Why an adapter cannot be used, in one line that names it.
public struct AdapterError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The kind of failure, by which a caller decides what to do; the HTTP API chooses the status by it.
  public enum Kind: Sendable, Equatable {
    /// There is no adapter of this name, or no such version of it.
    case unknownName
    /// The name is not allowed (`AdapterName`).
    case badName
    /// The path leads out of the adapters' folder, or the folder does not exist.
    case badPath
    /// The files are no adapter for this base.
    case refused
    /// The adapter was registered for another base.
    case incompatible
    /// The stored files are missing or have changed.
    case damaged
    /// The memory for adapters is full of adapters that running requests use or that are pinned.
    case overBudget
    /// The request's own time limit was over.
    case timedOut
    /// The data folder cannot be read or written.
    case storage
  }

  /// A setting of the server that the error depends on. The code that reports the error adds the name of its flag.
  public enum Setting: Sendable, Equatable {
    /// The memory for adapters.
    case memory
    /// The folder that adapters are loaded from.
    case folder
  }

  /// What went wrong.
  public let kind: Kind
  /// What is wrong, in one line for a person.
  public let description: String
  /// The setting to change, if one would help.
  public let setting: Setting?

  /// - Parameters: as the properties
  public init(_ kind: Kind, _ description: String, setting: Setting? = nil) {
    self.kind = kind
    self.description = description
    self.setting = setting
  }
}
