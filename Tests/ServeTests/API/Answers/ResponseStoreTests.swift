import Foundation
import GRDB
import TestSupport
import Testing

@testable import Formats
@testable import Model
@testable import Serve

@Suite final class ResponseStoreTests {
  private let folder: TemporaryFolder
  private let database: MetadataDatabase
  private let store: ResponseStore

  init() throws {
    folder = try TemporaryFolder()
    database = try MetadataDatabase(DataFolder(folder.url))
    store = ResponseStore(database: database, daysKept: 1)
  }

  deinit { folder.remove() }

  private func insert(_ id: String, age: Int = 0) throws {
    try database.insert(
      StoredResponse(
        id: id, createdAt: Int(Date().timeIntervalSince1970) - age, response: ["id": .string(id)], input: [["a": 1]],
        context: [["a": 1], ["b": 2]]))
  }

  @Test func eachPartIsReadAlone() throws {
    try insert("resp_1")
    #expect(try store.read(.response, of: "resp_1") == ["id": "resp_1"])
    #expect(try store.read(.input, of: "resp_1") == [["a": 1]])
    #expect(try store.read(.context, of: "resp_1") == [["a": 1], ["b": 2]])
    // A part that cannot be read matters to those who ask for it alone.
    try database.write { try $0.execute(sql: "UPDATE response SET context = '['") }
    #expect(try store.read(.response, of: "resp_1") == ["id": "resp_1"])
    #expect { try store.read(.context, of: "resp_1") } throws: { ($0 as? APIError)?.code == "storage_failed" }
    #expect(try store.remove("resp_1") && !store.remove("resp_1"))
    #expect(try store.read(.response, of: "resp_1") == nil)
  }

  @Test func whatIsTooOldIsGone() throws {
    try insert("old", age: 86_500)
    try insert("new", age: 86_300)
    #expect(try store.read(.response, of: "old") == nil)
    #expect(try store.read(.response, of: "new") != nil)
    #expect(try !store.remove("old") && store.remove("new"))
  }
}
