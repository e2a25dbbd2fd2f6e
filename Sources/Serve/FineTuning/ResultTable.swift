import Formats
import Model

/// A job's figures in the form of OpenAI's result file: `step,train_loss,train_accuracy,valid_loss,
/// valid_mean_token_accuracy`. Fields that were not computed are empty.
struct ResultTable {
  private static let columns = ["train_loss", "train_mean_token_accuracy", "valid_loss", "valid_mean_token_accuracy"]

  private var text = "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n"
  /// The step whose events are being added.
  private var step: Int?
  private var values: [String: JSONValue] = [:]

  /// Adds an event. Events of one step must follow one another, in the order of the steps.
  mutating func add(_ event: JSONValue) {
    guard let data = event.object?["data"]?.object, let step = data["step"]?.integer else { return }
    if step != self.step { endStep() }
    self.step = step
    for (key, value) in data.pairs { values[key] = value }
  }

  private mutating func endStep() {
    guard let step else { return }
    let cells = Self.columns.map { values[$0]?.double.map { "\($0)" } ?? "" }
    text += "\(step),\(cells.joined(separator: ","))\n"
    self.step = nil
    values = [:]
  }

  /// The table of all that was added.
  mutating func csv() -> String {
    endStep()
    return text
  }
}
