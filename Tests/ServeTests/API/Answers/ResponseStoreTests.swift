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

  private func insert(_ id: String, input: [JSONValue] = [], output: [JSONValue], age: Int = 0) throws {
    try database.insert(
      StoredResponse(
        id: id, createdAt: Int(Date().timeIntervalSince1970) - age,
        response: ["id": .string(id), "output": .array(output)], input: input, context: []))
  }

  /// The items of the newest response that has an item.
  private func items(besides id: String) throws -> [JSONValue] {
    guard let response = try store.response(withItem: id) else { return [] }
    return try store.items(of: response.id)
  }

  @Test func itemsAreFoundWhileTheirResponseIsKept() throws {
    try insert("resp_1", input: [["id": "msg_0"]], output: [["id": "msg_1"], ["id": "fc_1"]])
    try insert("resp_2", output: [["id": "msg_2"]], age: 86_500)
    let items: [JSONValue] = [["id": "msg_0"], ["id": "msg_1"], ["id": "fc_1"]]
    #expect(try self.items(besides: "fc_1") == items && self.items(besides: "msg_0") == items)
    #expect(try self.items(besides: "msg_2").isEmpty && self.items(besides: "resp_1").isEmpty)
    // Another response that has the item keeps it.
    try insert("resp_3", input: [["id": "fc_1"]], output: [["id": "msg_3"]], age: 10)
    _ = try store.remove("resp_1")
    #expect(try self.items(besides: "fc_1") == [["id": "fc_1"], ["id": "msg_3"]])
    #expect(try self.items(besides: "msg_1").isEmpty)
    try database.deleteResponses(before: .max)
    #expect(try database.read { try Int.fetchOne($0, sql: "SELECT count(*) FROM responseItem") } == 0)
  }

  @Test func theMigrationFindsTheItemsOfEarlierResponses() throws {
    try insert("resp_1", input: [["id": "msg_0"], ["id": "msg_0"]], output: [["id": "msg_1"], ["text": "a"], "b", 1])
    try insert("resp_2", output: [["id": "msg_2"]])
    try insert("resp_3", output: [])
    try insert("resp_4", output: [])
    try database.write { db in
      try db.execute(
        sql: """
          UPDATE response SET response = '{"outpu', input = '{' WHERE id = 'resp_3';
          UPDATE response SET response = '[1]', input = '"a"' WHERE id = 'resp_4';
          DROP TABLE responseItem;
          """)
      try ResponseTables.createItems(db)
    }
    let found = try database.read {
      try String.fetchAll($0, sql: "SELECT id || ' ' || response FROM responseItem ORDER BY id")
    }
    #expect(found == ["msg_0 resp_1", "msg_1 resp_1", "msg_2 resp_2"])
  }

  @Test func aReferenceIsReplacedByItsItem() throws {
    let long = JSONValue.string(String(repeating: "a", count: 6 << 20))
    try insert(
      "resp_1", input: [["id": "msg_0", "type": "message"]],
      output: (1...3).map { ["id": .string("msg_\($0)"), "text": long] })
    let memory = BodyMemory(limit: 256 << 20)
    var references = references(["msg_0", "msg_9", "msg_7", "msg_1", "msg_2"], memory)
    #expect(try references.item("msg_0", "input[0]")["type"] == "message")
    for id in ["msg_0", "msg_9"] {
      let error = error(id, &references)
      #expect(error?.status == 400 && error?.message.contains("Duplicate item found with id '\(id)'") == true)
    }
    #expect(error("msg_7", &references)?.status == 404)
    #expect(error("msg_1", &references) == nil && error("msg_2", &references) == nil)
    // What was read for them is not held any more.
    #expect(MemoryShare(memory, client: "b").holdIfFree(128 << 20) != nil)
    var all = self.references(["msg_1", "msg_2", "msg_3"], memory)
    #expect(error("msg_1", &all)?.code == "context_length_exceeded")
  }

  private func references(_ ids: [String], _ memory: BodyMemory) -> ItemReferences {
    ItemReferences(
      .array(ids.map { ["type": "item_reference", "id": .string($0)] }), earlier: [["id": "msg_9"]], store: store,
      memory: MemoryShare(memory, client: "a"))
  }

  private func error(_ id: String, _ references: inout ItemReferences) -> APIError? {
    do throws(APIError) { _ = try references.item(id, "input[1]") } catch { return error }
    return nil
  }

  /// The responses that references make the server read have limits, too: of memory, and of all bytes.
  @Test func whatReferencesMakeItReadIsLimited() throws {
    for index in 0..<5 {
      let long = JSONValue.string(String(repeating: "a", count: 15 << 20))
      try insert("resp_\(index)", output: [["id": .string("msg_\(index)")], ["id": "other", "text": long]])
    }
    let ids = (0..<5).map { "msg_\($0)" }
    var some = references(ids, BodyMemory(limit: 256 << 20))
    for id in ids.prefix(4) { #expect(error(id, &some) == nil) }
    #expect(error(ids[4], &some)?.status == 400)
    var none = references(ids, BodyMemory(limit: 16 << 20))
    let refusal = error(ids[0], &none)
    #expect(refusal?.status == 503 && refusal?.retryAfter == 1)
  }

  @Test(
    arguments: [
      (["type": "item_reference", "id": "a"], true), (["id": "a"], true), (["id": "a", "type": .null], true),
      (["id": "a", "role": "user"], false), (["id": "a", "type": "message"], false), ([:], false),
      (["id": "a", "arguments": "{}"], false),
    ] as [(JSONValue, Bool)])
  func whatAReferenceIs(item: JSONValue, isReference: Bool) throws {
    #expect(ItemReferences.isReference(try #require(item.object)) == isReference)
  }

  private func count(_ table: String) throws -> Int? {
    try database.read { try Int.fetchOne($0, sql: "SELECT count(*) FROM \(table)") }
  }

  private func bytes() throws -> Int? {
    try database.read { try Int.fetchOne($0, sql: "SELECT bytes FROM responseSize") }
  }

  private func ids() throws -> [String] {
    try database.read { try String.fetchAll($0, sql: "SELECT id FROM response ORDER BY id") }
  }

  /// Without a request, too, what is too old goes from the disk.
  @Test func whatIsTooOldIsDeletedAtTheStart() throws {
    try insert("old", input: [["id": "msg_0"]], output: [["id": "msg_1"]], age: 86_500)
    try insert("new", age: 86_300)
    withExtendedLifetime(ResponseStore(database: database, daysKept: 1)) {}
    #expect(try ids() == ["new"] && count("responseItem") == 0)
    withExtendedLifetime(ResponseStore(database: database, daysKept: 0)) {}
    #expect(try ids().isEmpty && bytes() == 0)
  }

  @Test func theOldestGoWhereThereAreTooManyBytes() throws {
    let text = JSONValue.string(String(repeating: "a", count: 1000))
    func response(_ id: String, age: Int, times: Int = 1) -> StoredResponse {
      StoredResponse(
        id: id, createdAt: Int(Date().timeIntervalSince1970) - age, response: ["id": .string(id)],
        input: Array(repeating: ["id": .string("msg_\(id)"), "text": text], count: times), context: [])
    }
    for (index, age) in [30, 50, 10, 40, 20].enumerated() {
      try database.insert(response("r\(index)", age: age), within: 4500)
    }
    #expect(try ids() == ["r0", "r2", "r3", "r4"], "the one of 50 seconds went")
    // The limit of a store holds from its start on.
    withExtendedLifetime(ResponseStore(database: database, daysKept: 1, maximumBytes: 2500)) {}
    #expect(try ids() == ["r2", "r4"] && count("responseItem") == 2)
    // The newest is kept, even if its clock is behind; one that is too large alone is not.
    try database.insert(response("r5", age: 60), within: 1500)
    #expect(try ids() == ["r5"])
    try database.insert(response("r6", age: 0, times: 3), within: 2500)
    #expect(try ids().isEmpty && count("responseItem") == 0 && bytes() == 0)
  }

  @Test func theMigrationCountsTheBytesOfEarlierResponses() throws {
    try insert("resp_1", input: [["id": "msg_0"]], output: [["id": "msg_1"]])
    try insert("resp_2", output: [["id": "msg_2"]])
    let counted = try bytes()
    try database.write { db in
      for name in ["responseAdded", "responseRemoved", "responseItemAdded", "responseItemRemoved"] {
        try db.execute(sql: "DROP TRIGGER \(name)")
      }
      try db.execute(sql: "DROP TABLE responseSize")
      try ResponseTables.createSize(db)
    }
    #expect(try bytes() == counted && counted ?? 0 > 100)
    #expect(try store.remove("resp_1") && store.remove("resp_2") && bytes() == 0)
  }

  @Test func whatIsTooOldIsGone() throws {
    try insert("old", age: 86_500)
    try insert("new", age: 86_300)
    #expect(try store.read(.response, of: "old") == nil)
    #expect(try store.read(.response, of: "new") != nil)
    #expect(try !store.remove("old") && store.remove("new"))
  }
}
