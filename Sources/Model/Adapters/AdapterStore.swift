public import Foundation
public import Kernels
import Synchronization

/// The adapters that requests may name. Publishing under a name swaps a reference: whoever holds the adapter that was
/// there before keeps it until done.
public final class AdapterStore: Sendable {
  public struct Record: Sendable {
    public let name: String
    public let adapter: Adapter
    /// The PEFT folder it was read from.
    public let source: URL
    /// Seconds since 1970.
    public let loadedAt: Int
  }

  public struct Failure: Error, Equatable, CustomStringConvertible {
    public enum Kind: Sendable {
      case unknownName, badName, outsideFolder, noFolder, refused
    }
    public let kind: Kind
    public let description: String
  }

  /// Where adapters are read from; paths outside it are refused.
  public let folder: URL?
  private let base: Base
  private let mode: ComputeMode
  private let reservedNames: Set<String>
  private let records = Mutex<[String: Record]>([:])

  /// - Parameter reservedNames: what already names the base
  public init(folder: URL?, base: Base, mode: ComputeMode, reservedNames: Set<String> = []) {
    self.reservedNames = reservedNames
    self.folder = folder?.standardizedFileURL
    self.base = base
    self.mode = mode
  }

  /// Loads every folder inside the store's; returns what was refused, and why.
  public func scan() throws -> [(name: String, reason: String)] {
    guard let folder else { return [] }
    let entries: [URL]
    do {
      entries = try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
    } catch {
      throw ModelError(folder.path, reason: "the adapters' folder cannot be read")
    }
    var refused: [(name: String, reason: String)] = []
    for entry in entries.sorted(by: { $0.lastPathComponent < $1.lastPathComponent }) {
      var isFolder: ObjCBool = false
      let name = entry.lastPathComponent
      guard FileManager.default.fileExists(atPath: entry.path, isDirectory: &isFolder), isFolder.boolValue,
        !name.hasPrefix(".")
      else { continue }
      do { try load(name: name, path: name) } catch { refused.append((name, error.description)) }
    }
    return refused
  }

  /// Reads a PEFT folder and publishes it under `name`. Takes as long as the reading does.
  /// - Parameter path: relative to the store's folder, or absolute inside it
  @discardableResult
  public func load(name: String, path: String) throws(Failure) -> Record {
    guard Self.isValid(name: name) else {
      throw Failure(
        kind: .badName,
        description:
          "'\(name)' is no adapter name: letters, digits and . _ / : - are allowed, and no ':number' at its end")
    }
    guard !reservedNames.contains(name) else {
      throw Failure(kind: .badName, description: "'\(name)' is the base's name")
    }
    let source = try confined(path)
    do {
      let adapter = try Adapter(peft: source, base: base, mode: mode)
      let record = Record(
        name: name, adapter: adapter, source: source, loadedAt: Int(Date().timeIntervalSince1970))
      records.withLock { $0[name] = record }
      return record
    } catch {
      throw Failure(kind: .refused, description: "adapter '\(name)': \(error)")
    }
  }

  /// Takes the name away; requests that run with the adapter keep it.
  public func unload(name: String) throws(Failure) {
    guard records.withLock({ $0.removeValue(forKey: name) }) != nil else {
      throw Failure(kind: .unknownName, description: "no adapter is called '\(name)'")
    }
  }

  public subscript(name: String) -> Record? { records.withLock { $0[name] } }

  /// In the order of their names.
  public var all: [Record] { records.withLock { $0.values.sorted { $0.name < $1.name } } }

  /// `[A-Za-z0-9._/:-]+`, up to 256 of them, not "base", and no end that reads as a scale or a version.
  public static func isValid(name: String) -> Bool {
    guard (1...256).contains(name.utf8.count), name != "base" else { return false }
    let allowed = name.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"):
        true
      default: "._/:-".utf8.contains(byte)
      }
    }
    guard allowed else { return false }
    // A name that ends in a colon and a finite decimal could not be told from a name with a scale.
    guard let colon = name.lastIndex(of: ":") else { return true }
    let end = name[name.index(after: colon)...]
    return !(end.utf8.allSatisfy { "0123456789+-.eE".utf8.contains($0) } && Double(end)?.isFinite == true)
  }

  /// The real path, links followed, if it lies inside the real folder.
  private func confined(_ path: String) throws(Failure) -> URL {
    guard let folder else {
      throw Failure(
        kind: .noFolder, description: "the server was started without --adapters, so no adapter can be loaded")
    }
    let wanted = path.hasPrefix("/") ? URL(filePath: path) : folder.appending(path: path)
    let root = folder.resolvingSymlinksInPath().path
    let real = wanted.standardizedFileURL.resolvingSymlinksInPath()
    // By bytes: a String's prefix also matches paths that only look the same.
    let inside = (root.hasSuffix("/") ? root : root + "/").utf8
    guard !path.utf8.contains(0), real.path.utf8.starts(with: inside) else {
      throw Failure(kind: .outsideFolder, description: "'\(path)' is not inside the adapters' folder")
    }
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
      guard real.appending(path: file).resolvingSymlinksInPath().path.utf8.starts(with: inside) else {
        throw Failure(kind: .outsideFolder, description: "'\(path)/\(file)' leads out of the adapters' folder")
      }
    }
    return real
  }
}
