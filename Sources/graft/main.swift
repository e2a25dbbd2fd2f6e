import Foundation
import Kernels
import Model
let pool = ThreadPool(threads: 2)
let source = try GGUFSource(URL(filePath: "/tmp/w/SmolLM2-135M-Instruct.Q4_1.gguf"))
let store = BaseStore(dataFolder: URL(filePath: "/tmp/w/data"))
let clock = ContinuousClock()
var t = clock.now
let (base, url) = try store.open(source, pool: pool) { print("\($0)", terminator: "\r") }
print("open", clock.now - t, url.path, base.fingerprint)
let T = Transformer(base: base, compute: Compute(pool: pool), contextLength: 2048, maxRows: 128)
let cache = try KeyValueCache(config: base.config, bytes: 1 << 30)
struct G: Decodable { struct P: Decodable { var ids: [Int32]; var by: [String: R] }; struct R: Decodable { var prompt_logprobs: [Double]; var greedy: [S] }; struct S: Decodable { var id: Int32; } ; var prompts: [P] }
let g = try JSONDecoder().decode(G.self, from: Data(contentsOf: URL(filePath: "/work/shared/golden/logits.json")))
for p in g.prompts {
  var table = BlockTable(); _ = cache.extend(&table, to: p.ids.count + 100)
  var worst = 0.0
  var next: Int32 = 0
  t = clock.now
  T.forward(ForwardBatch(segments: [.init(tokens: p.ids, position: 0, table: table, adapters: .none, logits: 0..<p.ids.count)]), cache: cache) { l, ld in
    for i in 0..<p.ids.count { let row = LogitRow(UnsafeBufferPointer(start: l + i*ld, count: base.config.vocabularySize), compute: T.compute)
      if i + 1 < p.ids.count { worst = max(worst, abs(Double(row.logprob(p.ids[i+1], logSumExp: row.logSumExp).logprob) - p.by["base"]!.prompt_logprobs[i])) } else { next = row.argmax } }
  }
  let tp = clock.now - t
  var ok = 0
  t = clock.now
  for (i, s) in p.by["base"]!.greedy.enumerated() {
    if next == s.id { ok += 1 }
    T.forward(ForwardBatch(segments: [.init(tokens: [next], position: p.ids.count + i, table: table, adapters: .none, logits: 0..<1)]), cache: cache) { l, ld in
      next = LogitRow(UnsafeBufferPointer(start: l, count: base.config.vocabularySize), compute: T.compute).argmax }
  }
  print(p.ids.count, worst, ok, tp, (clock.now - t) / p.by["base"]!.greedy.count)
  cache.release(&table)
}
