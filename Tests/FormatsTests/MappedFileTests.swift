import Foundation
import Testing

@testable import Formats

@Suite struct MappedFileTests {
  /// A file of three pages that loses all but the first while it is mapped, and is read then.
  private static func readWhatWasCut(before: () -> Void = {}) throws {
    MappedFile.exitOnBusError()
    let url = FileManager.default.temporaryDirectory.appending(path: "graft-cut-\(UUID().uuidString)")
    try Data(repeating: 7, count: 12_000).write(to: url)
    defer { try? FileManager.default.removeItem(at: url) }
    let file = try MappedFile(url)
    let bytes = try file.bytes(offset: 0, count: 12_000)
    guard bytes[11_000] == 7 else { return }
    before()
    guard truncate(url.path, 4096) == 0 else { return }
    // The file's name goes already, so that nothing is left behind; it is said all the same.
    try FileManager.default.removeItem(at: url)
    // Told, so that the optimiser cannot leave the reading out.
    print(bytes.reduce(0) { $0 &+ Int($1) })
  }

  @Test func readingWhatWasCutEndsTheProcessNamingTheFile() async throws {
    let result = await #expect(processExitsWith: .exitCode(1), observing: [\.standardErrorContent]) {
      try MappedFileTests.readWhatWasCut()
    }
    let text = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
    #expect(text.contains("/graft-cut-") && text.contains("was cut short"), "\(text)")
  }

  @Test func theRightFileIsNamedAmongOthersThatCameAndWent() async throws {
    let result = await #expect(processExitsWith: .exitCode(1), observing: [\.standardErrorContent]) {
      let folder = FileManager.default.temporaryDirectory
      var files: [MappedFile] = []
      for number in 0..<20 {
        let url = folder.appending(path: "graft-other-\(UUID().uuidString)")
        try Data(repeating: 1, count: 4096 * (number % 3 + 1)).write(to: url)
        files.append(try MappedFile(url))
        try FileManager.default.removeItem(at: url)
        if number % 3 == 0 { files.remove(at: number / 3) }
      }
      try MappedFileTests.readWhatWasCut { files.removeFirst() }
    }
    let text = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
    #expect(text.contains("/graft-cut-") && !text.contains("graft-other"), "\(text)")
  }

  @Test func aBusErrorElsewhereIsNotOurs() async throws {
    await #expect(processExitsWith: .signal(SIGBUS)) {
      MappedFile.exitOnBusError()
      let page = Int(sysconf(Int32(_SC_PAGESIZE)))
      let url = FileManager.default.temporaryDirectory.appending(path: "graft-else-\(UUID().uuidString)")
      let descriptor = open(url.path, O_RDWR | O_CREAT, 0o600)
      unlink(url.path)
      // Mapped beyond the file's end by somebody else.
      guard let mapping = mmap(nil, page, PROT_READ, MAP_PRIVATE, descriptor, 0), mapping != MAP_FAILED else { return }
      exit(Int32(mapping.load(as: UInt8.self)))
    }
  }
}
