import Formats
import Foundation

extension JSONValue {
  /// Prints the value on standard output, on one line.
  func printed() { print(String(decoding: encoded, as: UTF8.self)) }

  /// The member of an object.
  subscript(key: String) -> JSONValue? { object?[key] }
}
