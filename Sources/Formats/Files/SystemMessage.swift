import Foundation

/// What the system says of an error number (`errno`), such as "No such file or directory".
package func systemMessage(_ code: Int32) -> String {
  // glibc's strerror is thread-safe since 2.32.
  strerror(code).map { String(cString: $0) } ?? "error \(code)"
}
