public import Foundation
package import Formats
public import Tokenization

/// The committed fixtures of a test target: several targets read the same ones, so they are found from this file's path.
private func fixtures(of target: String) -> URL {
  URL(filePath: #filePath).appending(path: "../../\(target)/Fixtures").standardized
}

/// A published model, or a part of one, out of FormatsTests' fixtures.
public func formatFixture(_ name: String) -> URL { fixtures(of: "FormatsTests").appending(path: name) }

/// A PEFT adapter out of ModelTests' fixtures.
public func adapterFixture(_ name: String) -> URL { fixtures(of: "ModelTests").appending(path: "adapters/\(name)") }

/// A folder out of ModelTests' fixtures.
public func modelFixture(_ path: String) -> URL { fixtures(of: "ModelTests").appending(path: path) }

/// Fixtures and random texts that the tokenizer's tests share.
public enum TokenizerFixture {
  public static func url(_ path: String) -> URL {
    fixtures(of: "TokenizationTests").appending(path: path)
  }

  public static func tokenizer(_ folder: String) throws -> Tokenizer {
    try Tokenizer(.huggingFace(url(folder)), name: folder)
  }

  public static func decode<T: Decodable>(_ type: T.Type, _ path: String) throws -> T {
    try JSONDecoder().decode(type, from: Data(contentsOf: url(path)))
  }

  package static func json(_ path: String) throws -> JSONTree {
    try Data(contentsOf: url(path)).withUnsafeBytes { try JSONTree($0.assumingMemoryBound(to: UInt8.self)) }
  }

  /// Words, digits, blanks, marks and scalars from all over Unicode.
  public static func randomText(_ random: inout TinyRandom) -> String {
    var text = String.UnicodeScalarView()
    for _ in 0..<Int.random(in: 0...40, using: &random) {
      let range: ClosedRange<UInt32> =
        [
          0x61...0x7A, 0x20...0x20, 0x20...0x7E, 0x00...0x20, 0x80...0x6FF, 0x4E00...0x9FFF, 0x1F600...0x1F64F,
          0x30...0x39, 0x2000...0x2030, 0x2581...0x2581,
        ].randomElement(using: &random) ?? 0x20...0x20
      if let scalar = Unicode.Scalar(UInt32.random(in: range, using: &random)) { text.append(scalar) }
    }
    return String(text)
  }
}
