import Formats
import Foundation
import GRDB
import TestSupport
import Testing

@testable import Model
@testable import Serve

/// A data folder whose database is missing, empty, another's, or has lost some of its rows: nothing is deleted for that.
@Suite struct LostRecordsTests {
  private let setting: StoreSetting
  private let databaseURL: URL
  private var files: FileManager { .default }

  /// Makes a folder with two adapters, a file, a paused job and one that is over.
  init() throws {
    setting = try StoreSetting()
    databaseURL = setting.dataURL.appending(path: MetadataDatabase.fileName)
    for (seed, name) in ["x", "y"].enumerated() { try setting.write(name, seed: UInt64(seed)) }
    let folder = try setting.lockFolder()
    let database = try MetadataDatabase(folder)
    let store = try setting.open(folder, database)
    for name in ["x", "y"] { try store.load(name: name, path: name) }
    _ = try FileStore(dataFolder: folder, database: database, sizeLimit: 100)
      .add([1, 2, 3], filename: "f", purpose: "fine-tune", createdAt: 1)
    for (id, status) in [("ftjob-paused", "paused"), ("ftjob-over", "failed")] {
      let record: JSONValue = [
        "id": .string(id), "resultName": "ft:r", "status": .string(status), "createdAt": .integer(1), "model": "m",
        "base": "b", "method": "supervised", "seed": .integer(1), "requested": [:], "trainingFile": "file-1",
      ]
      try database.save(try #require(FineTuningJob(record: record)))
      let url = setting.dataURL.appending(path: "jobs/\(id)")
      try files.createDirectory(at: url, withIntermediateDirectories: true)
      try Data("rows".utf8).write(to: url.appending(path: "training.jsonl"))
    }
  }

  /// Everything that is stored, but for the database.
  private func stored() throws -> [String] {
    try files.subpathsOfDirectory(atPath: setting.dataURL.path).filter { path in
      !path.hasPrefix(MetadataDatabase.fileName) && path != "identity"
    }.sorted()
  }

  private func removeDatabase() throws {
    for suffix in ["", "-wal", "-shm"] { try? files.removeItem(atPath: databaseURL.path + suffix) }
  }

  /// Opens everything that a server does.
  private func open(_ unknown: UnknownContents = .refuse) throws -> (folder: DataFolder, database: MetadataDatabase) {
    let folder = try setting.lockFolder()
    let database = try MetadataDatabase(folder, unknown: unknown)
    _ = try setting.open(folder, database).scan()
    _ = try FileStore(dataFolder: folder, database: database, sizeLimit: 100)
    return (folder, database)
  }

  private func expectRefusal(_ what: String) throws {
    let before = try stored()
    for _ in 0..<2 {
      do {
        _ = try open()
        Issue.record("\(what): opened")
      } catch {
        let text = (error as? UnrecordedContentsError)?.advice ?? "\(error)"
        #expect(text.contains("2 adapters, 1 file, 2 jobs") && text.contains("graft adapters prune"), "\(text)")
        #expect(text.contains(setting.dataURL.path) && !text.contains("\n"), "\(text)")
      }
      #expect(try stored() == before, "\(what)")
    }
  }

  @Test func aMissingDatabaseIsRefused() throws {
    try removeDatabase()
    try expectRefusal("missing")
    #expect(!files.fileExists(atPath: databaseURL.path), "none is made that could be taken for the right one")
  }

  @Test func anEmptyDatabaseIsRefused() throws {
    try removeDatabase()
    try Data().write(to: databaseURL)
    try expectRefusal("no bytes")
    let queue = try DatabaseQueue(path: databaseURL.path)
    try queue.write { try $0.execute(sql: "CREATE TABLE x (y)") }
    try queue.close()
    try expectRefusal("no tables of ours")
  }

  @Test func aDatabaseWithoutRowsIsRefused() throws {
    var tables = ["adapterVersion", "adapter", "file", "fineTuningJob"]
    for _ in 0..<2 {
      let queue = try DatabaseQueue(path: databaseURL.path)
      try queue.writeWithoutTransaction { db in
        for table in tables { try db.execute(sql: "DELETE FROM \(table)") }
      }
      try queue.close()
      try expectRefusal("without \(tables)")
      tables.append("dataFolder")
    }
  }

  @Test func anotherFoldersDatabaseIsRefused() throws {
    let other = try StoreSetting()
    try other.write("z", seed: 9)
    try other.open().load(name: "z", path: "z")
    _ = try other.lockFolder()
    try removeDatabase()
    try files.copyItem(at: other.dataURL.appending(path: MetadataDatabase.fileName), to: databaseURL)
    try expectRefusal("another's")
    // Without its identity the records tell.
    try files.removeItem(at: setting.dataURL.appending(path: "identity"))
    try expectRefusal("another's, in a folder of an earlier version")
  }

  @Test func anEarlierVersionsFolderIsOpened() throws {
    try files.removeItem(at: setting.dataURL.appending(path: "identity"))
    let queue = try DatabaseQueue(path: databaseURL.path)
    try queue.write { try $0.execute(sql: "DELETE FROM dataFolder") }
    try queue.close()
    let before = try stored()
    let (folder, database) = try open()
    #expect(try folder.unrecorded(in: database).isEmpty)
    #expect(try stored() == before)
    #expect(try folder.identity == database.read { try String.fetchOne($0, sql: "SELECT identity FROM dataFolder") })
  }

  @Test func contentsWhoseRowsAreMissingStay() throws {
    try execute([
      "PRAGMA foreign_keys = OFF", "DELETE FROM adapterVersion WHERE name = 'x'",
      "DELETE FROM adapter WHERE name = 'y'", "DELETE FROM file",
      "DELETE FROM fineTuningJob WHERE id = 'ftjob-paused'",
    ])
    for name in ["x", "y"] { try files.removeItem(at: setting.model.adaptersFolder.appending(path: name)) }
    let before = try stored()
    let (folder, database) = try open()
    #expect(try stored() == before)
    let lost = try folder.unrecorded(in: database)
    #expect(lost.summary == "1 adapter, 1 file, 1 job" && lost.last?.name == "ftjob-paused")
    // Versions whose name was lost are there, and served to nobody before they are loaded again.
    let records = try database.adapters()
    let found = records.first { $0.name == "y" }
    #expect(found?.versions.count == 1 && found?.lastNumber == 1 && found?.isLoaded == false)
    #expect(try database.finishedJobs(among: ["ftjob-paused", "ftjob-over", "ftjob-unknown"]) == ["ftjob-over"])
    // Only who is asked to deletes it.
    for contents in lost { try folder.remove(contents) }
    #expect(try folder.unrecorded(in: database).isEmpty)
    #expect(try stored().count < before.count)
  }

  @Test func foldersWhoseRowsAreMissingAreRegisteredAgain() throws {
    let databaseRows = [
      ["DELETE FROM adapterVersion WHERE name = 'x'"], ["DELETE FROM adapter WHERE name = 'x'"],
      ["DELETE FROM adapter WHERE name = 'x'", "DELETE FROM adapterVersion WHERE name = 'x'"],
    ]
    for rows in databaseRows {
      try execute(["PRAGMA foreign_keys = OFF"] + rows)
      let (folder, database) = try open()
      #expect(try folder.unrecorded(in: database).isEmpty, "\(rows)")
      #expect(try database.adapters().first { $0.name == "x" }?.current != nil, "\(rows)")
    }
    // What was unloaded or deleted has lost nothing, and stays so.
    var store: AdapterStore? = try setting.open()
    try store?.unload(name: "x")
    try store?.remove(name: "y")
    store = nil
    store = try setting.open()
    #expect(try store?.scan().isEmpty == true && store?.served.isEmpty == true)
  }

  @Test func aLostCurrentVersionIsTold() throws {
    try setting.write("x", seed: 7)
    var store: AdapterStore? = try setting.open(versionsKept: 2)
    try store?.load(name: "x", path: "x")
    store = nil
    try execute(["DELETE FROM adapterVersion WHERE name = 'x' AND number = 2"])
    store = try setting.open(versionsKept: 2)
    guard case .refused(let error) = store?.listing("x")?.state else { throw ModelError(reason: "state") }
    #expect(error.description.contains("lost") && store?["x"] == nil)
    #expect(try store?.adapter("x", version: 1).rank == 4)
    #expect(throws: AdapterError.self) { try store?.adapter("x") }
    #expect(try store?.prune(keeping: 1).isEmpty == true, "the version that is left stays")
    #expect(try store?.load(name: "x", path: "x").currentNumber == 3)
  }

  private func execute(_ statements: [String]) throws {
    let queue = try DatabaseQueue(path: databaseURL.path)
    try queue.writeWithoutTransaction { db in for sql in statements { try db.execute(sql: sql) } }
    try queue.close()
  }

  @Test func whoTakesTheFolderOverKnowsWhatNoRecordNames() throws {
    try removeDatabase()
    #expect(try MetadataDatabase.unrecorded(in: setting.lockFolder()).count == 5)
    #expect(!files.fileExists(atPath: databaseURL.path), "looking changes nothing")
    let folder = try setting.lockFolder()
    let database = try MetadataDatabase(folder, unknown: .takeOver)
    let lost = try folder.unrecorded(in: database)
    #expect(lost.summary == "2 adapters, 1 file, 2 jobs")
    for contents in lost { try folder.remove(contents) }
    #expect(folder.contents.isEmpty)
    _ = try MetadataDatabase(folder)
  }

  @Test func aFolderWithABaseAloneIsAFreshOne() throws {
    let url = setting.model.root.appending(path: "fresh")
    try files.createDirectory(at: url.appending(path: "bases"), withIntermediateDirectories: true)
    try Data("x".utf8).write(to: url.appending(path: "bases/a.graft"))
    let folder = try DataFolder(url)
    _ = try MetadataDatabase(folder)
    _ = try MetadataDatabase(folder)
    #expect(folder.identity?.count == 32)
  }
}
