import Tokenization
import Model
import Train

/// Rows as they are trained on. Tokens that carry loss are in colour, or in brackets if colour is not available.
struct TrainingPreview {
  let tokenizer: Tokenizer
  let terminal: Terminal

  func show(_ data: TrainingData) {
    for mapping in data.mappings { print("=== \(mapping.description)") }
    for (name, examples) in [("row", data.training), ("validation row", data.validation)] {
      for (index, example) in examples.enumerated() {
        let rows = example.rows
        for (row, kind) in zip(rows, rows.count == 2 ? [", chosen", ", rejected"] : [""]) {
          print("--- \(name) \(index + 1)\(kind): \(row.tokens.count) tokens, \(row.lossCount) learnt")
          print(text(row))
        }
      }
    }
    print(
      "=== \(data.training.count) rows, \(data.validation.count) held out; \(data.cutCount) cut to the length limit, "
        + "\(data.lossless) without loss left out")
  }

  private func text(_ row: TrainingRow) -> String {
    row.runs.map { run in
      let text = tokenizer.decode(run.tokens, skippingSpecialTokens: false)
      guard run.isLearnt else { return text }
      return terminal.usesColour ? terminal.styled(text, .good) : "[[\(text)]]"
    }.joined()
  }
}
