import Formats

/// What a server says on a terminal when it is ready: one block.
struct StartupBlock {
  let model: String
  /// The file and the compute mode.
  let details: String
  let adapters: [String]
  let kernels: String
  let threads: Int
  let keyValueBytes: Int
  let adapterBytes: Int
  let contextLength: Int
  let url: String
  let hasKey: Bool

  /// The maximum number of adapters that are named.
  private static let namesShown = 4

  func text(for terminal: Terminal) -> String {
    let key = hasKey ? " -H \"Authorization: Bearer $GRAFT_API_KEY\"" : ""
    let lines = [
      ("model", "\(model) (\(details))"), ("adapters", adapterText),
      ("kernels", "\(kernels), \(threads) thread\(threads == 1 ? "" : "s")"),
      (
        "memory",
        "\(Quantity.bytes(keyValueBytes)) for keys and values, \(Quantity.bytes(adapterBytes)) for adapters; "
          + "\(contextLength) tokens a request"
      ),
      ("address", url + (hasKey ? " (with a key)" : "")),
    ]
    let block = lines.map { title, value in
      "  " + terminal.styled(title, .faint) + String(repeating: " ", count: 10 - title.count)
        + terminal.styled(Terminal.harmless(value), title == "address" ? .accent : nil)
    }
    let curl = [
      "  curl \(url)/v1/chat/completions\(key) \\",
      "    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello!\"}], \"max_tokens\": 40}'",
    ]
    let title = terminal.styled("Graft is ready", .bold) + terminal.styled("  (Ctrl-C stops it)", .faint)
    return (["", title] + block + [""] + curl + [""]).joined(separator: "\n")
  }

  private var adapterText: String {
    if adapters.isEmpty { return "none; 'graft adapters load NAME FOLDER --url \(url)' adds one" }
    let more = adapters.count - Self.namesShown
    let names = adapters.prefix(Self.namesShown).joined(separator: ", ")
    return "\(adapters.count): \(names)" + (more > 0 ? " and \(more) more" : "")
  }
}
