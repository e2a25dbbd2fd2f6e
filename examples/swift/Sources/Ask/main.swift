// Asks a model a question, without and with an adapter.
import Foundation
import Model
import Serve

let model = try LocalModel(at: URL(filePath: "models/SmolLM2-135M-Instruct.Q4_1.gguf"))
let pirate = try model.adapter(at: URL(filePath: "examples/adapters/pirate"))
for adapters in [AdapterSet.none, AdapterSet([(pirate, 1)])] {
  for try await text in try model.chat("What is the capital of France?", adapters: adapters, maxTokens: 40) {
    print(text, terminator: "")
  }
  print()
}
