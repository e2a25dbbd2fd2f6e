import Foundation
import GRDB
import Testing

@testable import Model
@testable import Serve

@Suite struct StorageTests {
  private let url = FileManager.default.temporaryDirectory.appending(path: "graft-\(UUID().uuidString)")

  private func message(_ body: () throws -> Void) -> String {
    do {
      try body()
      return ""
    } catch { return "\(error)" }
  }

  @Test func aFolderIsHeldByOneAtATime() throws {
    defer { try? FileManager.default.removeItem(at: url) }
    var first: DataFolder? = try DataFolder(url)
    let refusal = message { _ = try DataFolder(url) }
    #expect(refusal.contains("process \(getpid())") && refusal.contains(url.path), "\(refusal)")
    #expect(first != nil)
    first = nil
    _ = try DataFolder(url)
  }

  /// A descriptor that is closed twice may be another's by then.
  @Test func aRefusedFolderClosesNobodysDescriptor() throws {
    defer { try? FileManager.default.removeItem(at: url) }
    let first = try DataFolder(url)
    DispatchQueue.concurrentPerform(iterations: 8) { _ in
      for _ in 0..<200 {
        _ = try? DataFolder(url)
        let descriptor = open("/dev/null", O_RDONLY | O_CLOEXEC)
        #expect(descriptor >= 0 && close(descriptor) == 0, "closed by someone else")
      }
    }
    #expect(message { _ = try DataFolder(first.url) }.contains("in use"))
  }

  @Test func transactionsAreSynced() throws {
    defer { try? FileManager.default.removeItem(at: url) }
    let database = try MetadataDatabase(DataFolder(url))
    let modes = try database.read { db in
      (try String.fetchOne(db, sql: "PRAGMA journal_mode"), try Int.fetchOne(db, sql: "PRAGMA synchronous"))
    }
    #expect(modes.0 == "wal" && modes.1 == 2)
  }

  @Test func aNewerFolderIsRefused() throws {
    defer { try? FileManager.default.removeItem(at: url) }
    let folder = try DataFolder(url)
    var database: MetadataDatabase? = try MetadataDatabase(folder)
    try database?.write { try $0.execute(sql: "INSERT INTO grdb_migrations VALUES ('9999 from the future')") }
    database = nil
    #expect(message { _ = try MetadataDatabase(folder) }.contains("newer version"))
  }

  @Test func whatIsNoDatabaseIsOneLine() throws {
    defer { try? FileManager.default.removeItem(at: url) }
    let folder = try DataFolder(url)
    try Data(repeating: 7, count: 5000).write(to: url.appending(path: MetadataDatabase.fileName))
    let refusal = message { _ = try MetadataDatabase(folder) }
    #expect(refusal.contains(MetadataDatabase.fileName) && !refusal.contains("\n"), "\(refusal)")
  }
}
