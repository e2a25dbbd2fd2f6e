import Model

/// A job's figures as OpenAI's result file has them: `step,train_loss,train_accuracy,valid_loss,
/// valid_mean_token_accuracy`, what was not computed left empty.
struct ResultTable {
  private var rows: [Int: [String: JSONValue]] = [:]

  /// - Parameter events: a job's events that have a step
  init(_ events: [JSONValue]) {
    for event in events {
      guard let data = event.object?["data"]?.object, let step = data["step"]?.integer else { continue }
      for (key, value) in data.pairs { rows[step, default: [:]][key] = value }
    }
  }

  var csv: String {
    let columns = ["train_loss", "train_mean_token_accuracy", "valid_loss", "valid_mean_token_accuracy"]
    var text = "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n"
    for (step, values) in rows.sorted(by: { $0.key < $1.key }) {
      let cells = columns.map { values[$0]?.double.map { "\($0)" } ?? "" }
      text += "\(step),\(cells.joined(separator: ","))\n"
    }
    return text
  }
}
