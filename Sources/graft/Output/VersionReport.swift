import CYAML
import Formats
import Kernels
import Serve
import Tokenization

/// What `graft --version` prints.
enum VersionReport {
  /// The version with the kernels that are used, the commit, the kernels of this build and the libraries.
  static func text(_ kernels: KernelSet) -> String {
    let built = InstructionSet.allCases.filter(\.isBuilt)
    let names = built.map { $0.rawValue + (KernelSet($0) == nil ? " (not on this machine)" : "") }
    let libraries = [
      ("libevent", libeventVersion), ("OpenSSL", openSSLVersion), ("OpenBLAS", openBLASVersion),
      ("SQLite", sqliteVersion), ("PCRE2", pcre2Version), ("xxHash", xxHashVersion),
      ("libyaml", String(cString: yaml_get_version_string())),
    ]
    return [
      "\(graftVersion) (kernels: \(kernels.instructionSet.rawValue))",
      "commit: \(builtCommit.isEmpty ? "unknown" : builtCommit)",
      "kernels in this build: \(names.joined(separator: ", "))",
      "libraries: \(libraries.map { "\($0) \($1)" }.joined(separator: ", "))",
    ].joined(separator: "\n")
  }
}
