import Formats
import Foundation
import Model
import Tokenization
import Train

/// What a job would train on and need, or what is wrong with its data.
struct FineTuningPreview: Sendable {
  let json: JSONValue
}

extension FineTuningService {
  private static let rowsShown = 5

  /// Checks everything about a job as `create` does, without creating it. Wrong data is a part of the answer. Runs on
  /// `validation`, because it reads the data.
  /// - Parameter stop: raised when the answer is not needed any more
  /// - Throws: `FineTuningError` for wrong settings, unknown files and the like
  func preview(_ request: FineTuningRequest, stop: StopFlag) throws(FineTuningError) -> FineTuningPreview {
    let (settings, training, validation, initial) = try inputs(of: request)
    let key = RandomName.make("preview-", length: 24)
    queue.sync { state.checking[key] = stop }
    defer { queue.sync { state.checking[key] = nil } }
    let freed = queue.sync { current?.memory ?? 0 }
    let room = FineTuningData.room(limit: environment.limits.memory, freed: freed)
    let head: [(key: String, value: JSONValue)] = [
      ("object", "fine_tuning.preview"), ("hyperparameters", .object(settings.json)),
    ]
    do throws(FineTuningError) {
      let rows = try data.read(training: training, validation: validation, settings, room: room, stop: stop)
      let forecast = try data.forecast(rows, settings, initial: initial)
      let pairs = head + Self.problems([], count: 0, param: nil) + (try figures(rows, settings))
      return FineTuningPreview(
        json: .object(JSONObject(keepingFirst: pairs + [("memory", Self.memory(forecast, available: room))])))
    } catch  where ["invalid_training_file", "invalid_validation_file"].contains(error.code) {
      let lines = error.problems?.problems.map { problem in
        Self.problem(line: problem.line, code: problem.name, problem.detail)
      }
      let problems = lines ?? [Self.problem(line: nil, code: error.code ?? "", error.message)]
      return FineTuningPreview(
        json: .object(
          JSONObject(
            keepingFirst: head + Self.problems(problems, count: error.problems?.count ?? 1, param: error.param))))
    }
  }

  private static func problems(
    _ problems: [JSONValue], count: Int, param: String?
  ) -> [(key: String, value: JSONValue)] {
    [
      ("valid", .bool(count == 0)), ("param", param.map(JSONValue.string) ?? .null),
      ("problem_count", .integer(count)), ("problems", .array(problems)),
    ]
  }

  private static func problem(line: Int?, code: String, _ message: String) -> JSONValue {
    ["line": line.map(JSONValue.integer) ?? .null, "code": .string(code), "message": .string(message)]
  }

  private func figures(
    _ data: TrainingData, _ settings: Hyperparameters
  ) throws(FineTuningError) -> [(key: String, value: JSONValue)] {
    let steps: Int
    do throws(HyperparameterError) { steps = try settings.totalSteps(examples: data.training.count) } catch {
      throw FineTuningError(.invalid, "\(error)", param: "hyperparameters", code: "invalid_hyperparameter")
    }
    let rows = data.training.flatMap(\.rows)
    let tokens = rows.reduce(0) { $0 + $1.tokens.count }
    let examples = steps.multipliedReportingOverflow(by: settings.rowsPerStep)
    let epochs =
      settings.maxSteps == nil || examples.overflow
      ? Double(settings.nEpochs) : Double(examples.partialValue) / Double(max(data.training.count, 1))
    let shown = data.training.prefix(Self.rowsShown).flatMap { example in
      zip(example.rows, example.rows.count == 2 ? ["chosen", "rejected"] : ["row"]).map(row)
    }
    return [
      ("formats", .array(data.mappings.map { .string($0.description) })), ("examples", .integer(data.training.count)),
      ("validation_examples", .integer(data.validation.count)), ("cut_rows", .integer(data.cutCount)),
      ("lossless_rows", .integer(data.lossless)), ("epoch_tokens", .integer(tokens)),
      ("epoch_learnt_tokens", .integer(rows.reduce(0) { $0 + $1.lossCount })), ("steps", .integer(steps)),
      ("total_tokens", .integer(Int(min(Double(tokens) * epochs, 1e15)))),
      ("longest_example", .integer(data.longestExample)), ("rows", .array(shown)),
    ]
  }

  private func row(_ row: TrainingRow, kind: String) -> JSONValue {
    let runs = row.runs.map { run -> JSONValue in
      [
        "text": .string(environment.tokenizer.decode(run.tokens, skippingSpecialTokens: false)),
        "learnt": .bool(run.isLearnt),
      ]
    }
    return [
      "kind": .string(kind), "tokens": .integer(row.tokens.count), "learnt_tokens": .integer(row.lossCount),
      "runs": .array(runs),
    ]
  }

  private static func memory(_ forecast: MemoryForecast, available: Int?) -> JSONValue {
    [
      "bytes": .integer(forecast.extra), "adapter": .integer(forecast.adapter),
      "activations": .integer(forecast.activations), "data": .integer(forecast.data),
      "available": available.map(JSONValue.integer) ?? .null,
    ]
  }
}
