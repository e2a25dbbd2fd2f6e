/// The console: a web page that uses the HTTP API. Its files are compiled into the binary, so the server needs no folder of
/// them.
public enum ConsolePage {
  /// The page itself.
  public static let index = ConsoleFile("index.html", PackageResources.index_html)

  /// The file of a name that `index` or another file refers to; `nil` if there is none.
  public static func file(named name: String) -> ConsoleFile? { byName[name] }

  /// The names of all files but the page itself, in order.
  public static var names: [String] { byName.keys.sorted() }

  /// What a browser may load and do with the page: scripts and styles from this server only, none inline, and no frames.
  public static let securityPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

  private static let byName = Dictionary(uniqueKeysWithValues: all.map { ($0.name, $0) })
}
