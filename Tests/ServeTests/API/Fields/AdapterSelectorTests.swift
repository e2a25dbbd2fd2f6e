import Formats
import Foundation
import Kernels
import Model
import TestSupport
import Testing

@testable import Serve

@Suite struct AdapterSelectorTests {
  private typealias Term = AdapterSelector.Term

  private func terms(_ text: String) throws(APIError) -> [AdapterSelector.Term] {
    try AdapterSelector(text, param: "adapter").terms
  }

  @Test func theGrammarIsAsDocumented() throws {
    let table: [(text: String, terms: [Term])] = [
      ("", []), ("base", []),
      ("a", [Term(name: "a")]),
      ("org/a.b-c_d", [Term(name: "org/a.b-c_d")]),
      ("a:0.5", [Term(name: "a", scale: 0.5)]),
      ("a:-2", [Term(name: "a", scale: -2)]),
      ("a:+.5e1", [Term(name: "a", scale: 5)]),
      ("a:0", [Term(name: "a", scale: 0)]),
      ("a@3", [Term(name: "a", version: 3)]),
      ("a@3:0.5", [Term(name: "a", version: 3, scale: 0.5)]),
      ("a:0.7,b:0.3", [Term(name: "a", scale: 0.7), Term(name: "b", scale: 0.3)]),
      ("a@1,a@2", [Term(name: "a", version: 1), Term(name: "a", version: 2)]),
      // Only one scale and one version are taken, from the end.
      ("ft:x:y", [Term(name: "ft:x:y")]), ("ft:x:y:2", [Term(name: "ft:x:y", scale: 2)]),
      ("a:1:2", [Term(name: "a:1", scale: 2)]), ("a:0.5@2", [Term(name: "a:0.5", version: 2)]),
      ("a@1@2", [Term(name: "a@1", version: 2)]),
      // What is no finite decimal, or no positive integer, stays in the name.
      ("a:", [Term(name: "a:")]), ("a:inf", [Term(name: "a:inf")]), ("a:nan", [Term(name: "a:nan")]),
      ("a:0x10", [Term(name: "a:0x10")]), ("a:1e999", [Term(name: "a:1e999")]), ("a: 1", [Term(name: "a: 1")]),
      ("a:1_0", [Term(name: "a:1_0")]), ("a:e", [Term(name: "a:e")]), ("a:1-", [Term(name: "a:1-")]),
      ("a@0", [Term(name: "a@0")]), ("a@-1", [Term(name: "a@-1")]), ("a@+1", [Term(name: "a@+1")]),
      ("a@1.5", [Term(name: "a@1.5")]), ("a@99999999999999999999", [Term(name: "a@99999999999999999999")]),
      ("a@x", [Term(name: "a@x")]), ("Base", [Term(name: "Base")]),
    ]
    for (text, expected) in table { #expect(try terms(text) == expected, "\(text)") }
  }

  @Test func emptyAndRepeatedTermsAreRefused() {
    for text in [
      ",", "a,", ",a", "a,,b", ":1", "@1", "@1:2", "a,base", "base,a", "base:0.5", "base@1", "a,a", "a:1,b,a:1.0",
      "a@2,a@2",
    ] {
      let error = #expect(throws: APIError.self, "\(text)") { try terms(text) }
      #expect(error?.status == 400 && error?.param == "adapter", "\(text)")
    }
  }

  /// However many names there are, they are refused before anything is made of them.
  @Test func moreThanEightTermsAreRefused() throws {
    let eight = (0..<8).map { "a\($0):0.1" }.joined(separator: ",")
    #expect(try terms(eight).count == 8)
    for text in [eight + ",b", String(repeating: "a,", count: 5_000_000), String(repeating: ",", count: 9)] {
      let error = #expect(throws: APIError.self) { try terms(text) }
      #expect(error?.status == 400 && error?.param == "adapter" && (error?.message.utf8.count ?? 0) < 400)
    }
  }

  /// A name has any length, and one character may have megabytes.
  @Test func longNamesAreRefusedByTheirBytes() {
    for text in [
      "a:" + String(repeating: "0", count: 4_000_000) + "1", "e" + String(repeating: "\u{301}", count: 4_000_000),
      String(repeating: "x", count: 4097), "a@" + String(repeating: "9", count: 1_000_000),
    ] {
      let error = #expect(throws: APIError.self) { try terms(text) }
      #expect(error?.status == 400 && (error?.message.utf8.count ?? 0) < 400)
    }
  }

  @Test func metricsHaveALabelForEachAdapterAndOneForAllSums() throws {
    #expect(try AdapterSelector("", param: "adapter").label == "base")
    #expect(try AdapterSelector("a:0.5", param: "adapter").label == "a")
    #expect(try AdapterSelector("a@2", param: "adapter").label == "a")
    let sums = try ["a,b", "b:0.1,a", "a:0.5,b:0.25,c"].map { try AdapterSelector($0, param: "adapter").label }
    #expect(sums == Array(repeating: AdapterSelector.sumLabel, count: 3))
  }

  // MARK: requests

  /// A server's context with the adapters "a", "b" and "org/c".
  private final class Setting {
    let model: TinyModel
    let context: ServerContext

    init() throws {
      model = try TinyModel(TinyShape(layers: 1))
      let base = try model.base()
      let folder = try DataFolder(model.root.appending(path: "data"))
      let database = try MetadataDatabase(folder)
      let store = try AdapterStore(
        dataFolder: folder, database: database,
        binding: .init(fingerprint: base.fingerprint, preparer: AdapterPreparer(base: base, mode: .f32)),
        folder: model.adaptersFolder)
      for (seed, name) in ["a", "b", "c"].enumerated() {
        _ = try model.writeAdapter(name, ranks: [.q: 4], seed: UInt64(seed))
        try store.load(name: name == "c" ? "org/c" : name, path: name)
      }
      let transformer = Transformer(base: base, compute: Compute(pool: ThreadPool(threads: 1)))
      let tokenizer = try model.tokenizer()
      let engine = Engine(
        transformer: transformer,
        cache: try KeyValueCache(config: base.config, bytes: 1 << 20, element: .f32), tokenizer: tokenizer)
      context = ServerContext(
        engine: engine, tokenizer: tokenizer, adapters: store, base: base, contextLength: 64, servedModelName: "tiny",
        startedAt: 0, responses: ResponseStore(database: database, daysKept: 1))
    }

    func select(_ model: String?, _ adapters: [String]) throws(APIError) -> (adapters: AdapterSet, name: String) {
      let selection = try context.selection(
        ModelFields(model: model.map(JSONValue.string)), query: adapters.map { (name: "adapter", value: $0) })
      do throws(AdapterError) {
        let found = try context.adapters.acquireWaiting(selection.selector.references)
        let terms = zip(found, selection.selector.terms).map { (adapter: $0, weight: $1.scale ?? 1) }
        return (AdapterSet(terms), selection.name)
      } catch { throw error.apiError(param: selection.param) }
    }
  }

  @Test func aRequestSelectsByQueryOrModel() throws {
    let setting = try Setting()
    for model in [nil, "base", "tiny"] {
      let (adapters, name) = try setting.select(model, [])
      #expect(adapters.terms.isEmpty && name == "tiny", "\(model ?? "none")")
    }
    for value in ["", "base"] { #expect(try setting.select(nil, [value]).adapters.terms.isEmpty) }
    #expect(try setting.select("org/c:0.5", []).adapters.terms.map(\.weight) == [0.5])
    #expect(try setting.select("org/c:0.5", []).name == "org/c:0.5")
    #expect(try setting.select(nil, ["a:0.7,b:0.3"]).adapters == setting.select("b:0.3,a:0.7", []).adapters)
    #expect(try setting.select("tiny", ["a"]).name == "a")
    #expect(try setting.select("a", ["a"]).adapters == setting.select("a", []).adapters)
    #expect(try setting.select(nil, ["a"]).adapters != setting.select(nil, ["a:0.5"]).adapters)
  }

  @Test func theBodysAdapterIsLikeTheQuerys() throws {
    let setting = try Setting()
    func select(_ json: String, _ query: String...) throws(APIError) -> ModelSelection {
      let fields = try RequestFields(Array(json.utf8), JSONLimits())
      return try setting.context.selection(
        try ModelFields(fields), query: query.map { (name: "adapter", value: $0) })
    }
    #expect(try select(#"{"adapter": "a:0.5"}"#).selector == AdapterSelector("a:0.5", param: "adapter"))
    #expect(try select(#"{"adapter": "a", "model": "tiny"}"#, "a").name == "a")
    #expect(try select(#"{"adapter": "a,b", "model": "b,a"}"#).selector.terms.count == 2)
    for empty in [#"{"adapter": null}"#, #"{"adapter": ""}"#, #"{"adapter": "base"}"#, "{}"] {
      #expect(try select(empty).selector.terms.isEmpty, "\(empty)")
    }
    for (json, query) in [
      (#"{"adapter": "a"}"#, "b"), (#"{"adapter": "a"}"#, "a:0.5"), (#"{"adapter": "a"}"#, ""),
      (#"{"adapter": ""}"#, "a"), (#"{"adapter": "a", "model": "b"}"#, "a"), (#"{"adapter": 5}"#, "a"),
    ] {
      let error = #expect(throws: APIError.self, "\(json) \(query)") { try select(json, query) }
      #expect(error?.status == 400 && error?.param == "adapter", "\(json) \(query)")
    }
  }

  /// Null and "" are slips that must not be answered by the bare base.
  @Test func aModelThatIsNullOrEmptyIsRefusedWithTheNames() throws {
    let setting = try Setting()
    for json in [#"{"model": null}"#, #"{"model": ""}"#] {
      let fields = try RequestFields(Array(json.utf8), JSONLimits())
      let error = #expect(throws: APIError.self) {
        try setting.context.selection(try ModelFields(fields), query: [(name: "adapter", value: "a")])
      }
      #expect(error?.status == 400 && error?.param == "model", "\(json)")
      for name in ["'base'", "'tiny'", "'a'", "'b'", "'org/c'"] {
        #expect(error?.message.contains(name) == true, "\(json): \(name)")
      }
    }
  }

  @Test func whatIsNotThereOrContradictsIsRefused() throws {
    let setting = try Setting()
    func error(_ model: String?, _ adapters: String...) -> APIError? {
      do throws(APIError) {
        _ = try setting.select(model, adapters)
        return nil
      } catch { return error }
    }
    #expect(error("gpt-4")?.status == 404 && error("gpt-4")?.code == "model_not_found")
    #expect(error("gpt-4")?.param == "model" && error(nil, "x")?.param == "adapter")
    // The served name is the model's, no adapter's.
    #expect(error(nil, "tiny")?.status == 404)
    #expect(error(nil, "a:1:2")?.status == 404 && error(nil, "a,b,x")?.status == 404)
    #expect(error(nil, "a", "a")?.status == 400)
    for (model, adapter) in [("a", "b"), ("a", "a:0.5"), ("a", "base"), ("a", ""), ("a", "a,b")] {
      #expect(error(model, adapter)?.status == 400, "\(model), \(adapter)")
    }
    #expect(error(nil, "a@2")?.status == 404 && error(nil, "a@1") == nil)
  }
}
