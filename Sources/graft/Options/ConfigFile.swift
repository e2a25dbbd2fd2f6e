import ArgumentParser
import CYAML
import Formats
import Foundation

/// A config file: YAML whose keys are long names of options, without the dashes. What it says holds for every command that
/// has the option.
struct ConfigFile {
  /// A key with its value; a list gives the option several times.
  struct Setting: Equatable {
    let key: String
    let values: [String]
    /// From 1.
    let line: Int
  }

  let path: String
  private(set) var settings: [Setting] = []

  private static let sizeLimit = 1 << 20

  subscript(key: String) -> Setting? { settings.first { $0.key == key } }

  /// Reads the file that is in use.
  /// - Parameters:
  ///   - path: what `--config` or GRAFT_CONFIG gives; `nil` for the file at the usual place, which may be missing
  /// - Returns: `nil` if there is no file at the usual place
  /// - Throws: `ValidationError` naming the file and the line
  static func find(_ path: String?, environment: [String: String]) throws -> ConfigFile? {
    if let path { return try ConfigFile(path: path) }
    let usual = usualPath(environment)
    return FileManager.default.fileExists(atPath: usual) ? try ConfigFile(path: usual) : nil
  }

  /// "~/.config/graft/config.yaml", or below XDG_CONFIG_HOME.
  static func usualPath(_ environment: [String: String]) -> String {
    if let home = environment["XDG_CONFIG_HOME"], !home.isEmpty { return home + "/graft/config.yaml" }
    return (environment["HOME"] ?? ".") + "/.config/graft/config.yaml"
  }

  /// - Throws: `ValidationError` naming the file and the line
  init(path: String) throws {
    let text: Data
    do {
      let handle = try FileHandle(forReadingFrom: URL(filePath: path))
      defer { try? handle.close() }
      text = try handle.read(upToCount: Self.sizeLimit + 1) ?? Data()
    } catch { throw ValidationError("the config file \(path) cannot be read: \(error.localizedDescription)") }
    guard text.count <= Self.sizeLimit else { throw ValidationError("the config file \(path) has more than 1 MiB") }
    try self.init(text, path: path)
  }

  /// - Parameter path: names the file in errors
  init(_ text: Data, path: String) throws {
    self.path = path
    var parser = yaml_parser_t()
    guard yaml_parser_initialize(&parser) != 0 else { throw ValidationError("there is no memory to read \(path)") }
    defer { yaml_parser_delete(&parser) }
    // Everything that points into the text is used inside this closure.
    settings = try [UInt8](text).withUnsafeBufferPointer { bytes in
      yaml_parser_set_input_string(&parser, bytes.baseAddress, bytes.count)
      var document = yaml_document_t()
      guard yaml_parser_load(&parser, &document) != 0 else {
        let reason = parser.problem.map { String(cString: $0) } ?? "malformed YAML"
        throw Self.error(path, Int(parser.problem_mark.line) + 1, reason)
      }
      defer { yaml_document_delete(&document) }
      return try Self.settings(&document, path)
    }
  }

  private static func settings(_ document: inout yaml_document_t, _ path: String) throws -> [Setting] {
    guard let root = yaml_document_get_root_node(&document) else { return [] }
    guard root.pointee.type == YAML_MAPPING_NODE else {
      throw error(path, line(root), "must be keys with values, such as 'port: 8080'")
    }
    var settings: [Setting] = []
    let pairs = root.pointee.data.mapping.pairs
    let count = pairs.start.map { pairs.top - $0 } ?? 0
    for index in 0..<count {
      guard let pair = pairs.start?[index], let keyNode = yaml_document_get_node(&document, pair.key),
        let value = yaml_document_get_node(&document, pair.value)
      else { continue }
      guard let key = scalar(keyNode) else { throw error(path, line(keyNode), "a key must be a name") }
      guard !settings.contains(where: { $0.key == key }) else {
        throw error(path, line(keyNode), "'\(key)' comes twice")
      }
      settings.append(Setting(key: key, values: try values(value, key, &document, path), line: line(keyNode)))
    }
    return settings
  }

  private static func values(
    _ node: UnsafeMutablePointer<yaml_node_t>, _ key: String, _ document: inout yaml_document_t, _ path: String
  ) throws -> [String] {
    if let value = scalar(node) {
      guard !value.isEmpty else { throw error(path, line(node), "'\(key)' has no value") }
      return [value]
    }
    guard node.pointee.type == YAML_SEQUENCE_NODE else {
      throw error(path, line(node), "'\(key)' has keys below it; keys are long names of options, such as 'port'")
    }
    let items = node.pointee.data.sequence.items
    let count = items.start.map { items.top - $0 } ?? 0
    return try (0..<count).map { index in
      guard let number = items.start?[index], let item = yaml_document_get_node(&document, number),
        let value = scalar(item)
      else { throw error(path, line(node), "'\(key)' must be a value or a list of values") }
      return value
    }
  }

  private static func scalar(_ node: UnsafeMutablePointer<yaml_node_t>) -> String? {
    guard node.pointee.type == YAML_SCALAR_NODE else { return nil }
    let scalar = node.pointee.data.scalar
    return String(decoding: UnsafeBufferPointer(start: scalar.value, count: scalar.length), as: UTF8.self)
  }

  private static func line(_ node: UnsafeMutablePointer<yaml_node_t>) -> Int { Int(node.pointee.start_mark.line) + 1 }

  private static func error(_ path: String, _ line: Int, _ reason: String) -> ValidationError {
    ValidationError("line \(line) of \(path): \(reason)")
  }
}
