import ArgumentParser
import Client
import Foundation
import Formats
import Serve

struct ListAdapters: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "Lists the adapters with their versions.",
    usage: "graft adapters list [<options>]",
    discussion: """
      On a terminal this is a table. In a pipe there is one line for each version, with tabs between its parts: name, \
      state, rank, bytes, content hash, base, targets.
      """)

  @OptionGroup var installation: InstallationOptions

  @OptionGroup var output: JSONOption

  func run() throws {
    let listings: [JSONValue]
    switch try installation.open() {
    case .server(let client): listings = try client.adapters()
    case .folder(let folder, let database):
      listings = try AdapterStore(dataFolder: folder, database: database, binding: .none).listings.map(\.json)
      let unrecorded = try folder.unrecorded(in: database)
      if !unrecorded.isEmpty {
        writeError("graft: no record names \(unrecorded.summary); 'prune' deletes what none names")
      }
    }
    if output.json { return JSONValue.array(listings).printed() }
    for listing in listings {
      guard let warning = listing["warning"]?.string, let name = listing["name"]?.string else { continue }
      writeError("graft: '\(name)': \(warning)")
    }
    let terminal = Terminal.output
    if terminal.isTerminal, listings.isEmpty {
      return print("There are no adapters. 'graft adapters load NAME FOLDER' adds one.")
    }
    let text = AdapterTable(listings).text(for: terminal)
    if !text.isEmpty { print(text) }
  }
}

/// The list of adapters for people, and for programs that read lines.
struct AdapterTable {
  private let listings: [JSONValue]

  /// - Parameter listings: as `GET /v1/adapters` gives them
  init(_ listings: [JSONValue]) { self.listings = listings }

  func text(for terminal: Terminal) -> String {
    var table = TextTable(
      terminal.isTerminal
        ? [
          .init(title: "NAME", canBeCut: true), .init(title: "STATE", canBeCut: true),
          .init(title: "RANK", isNumber: true), .init(title: "SIZE", isNumber: true),
          .init(title: "BASE"), .init(title: "TARGETS", canBeCut: true),
        ]
        : ["name", "state", "rank", "bytes", "hash", "base", "targets"].map { .init(title: $0) })
    for listing in listings {
      for version in versions(listing) {
        table.add(terminal.isTerminal ? cells(listing, version) : plainCells(listing, version))
      }
    }
    return table.text(for: terminal)
  }

  /// The versions, or the listing itself where it has none because it was refused.
  private func versions(_ listing: JSONValue) -> [JSONValue] {
    let versions = listing["versions"]?.array ?? []
    return versions.isEmpty ? [listing] : versions
  }

  private func name(_ listing: JSONValue, _ version: JSONValue) -> String {
    (listing["name"]?.string ?? "") + (version["version"]?.integer.map { "@\($0)" } ?? "")
  }

  private func cells(_ listing: JSONValue, _ version: JSONValue) -> [TextTable.Cell] {
    let state = state(listing, version)
    let style: Terminal.Style? =
      switch version["state"]?.string {
      case "refused", "incompatible": .bad
      case "unloaded": .faint
      default: state.hasPrefix("current") ? .good : .faint
      }
    return [
      .init(name(listing, version), .bold), .init(state, style),
      .init(version["rank"]?.integer.map(String.init) ?? "–"),
      .init(version["file_bytes"]?.integer.map(Quantity.bytes) ?? "–"),
      .init(String(version["base"]?.string?.prefix(8) ?? "–")), .init(targets(version).joined(separator: " ")),
    ]
  }

  private func plainCells(_ listing: JSONValue, _ version: JSONValue) -> [TextTable.Cell] {
    [
      .init(name(listing, version)), .init(state(listing, version)), "rank \(version["rank"]?.integer ?? 0)",
      "\(version["file_bytes"]?.integer ?? 0) bytes", .init(String(version["content_hash"]?.string?.prefix(12) ?? "")),
      "base \(String(version["base"]?.string?.prefix(12) ?? ""))", .init(targets(version).joined(separator: ",")),
    ]
  }

  private func targets(_ version: JSONValue) -> [String] { version["targets"]?.array?.compactMap(\.string) ?? [] }

  private func state(_ listing: JSONValue, _ version: JSONValue) -> String {
    if let reason = version["reason"]?.string { return reason }
    if version["state"]?.string == "unloaded" { return "unloaded" }
    if version["version"] != listing["version"] { return "old" }
    return listing["pinned"]?.bool == true ? "current, pinned" : "current"
  }
}
