import Kernels
import Model

/// `GET /metrics`: the engine's counters in Prometheus' text format 0.0.4
/// (https://prometheus.io/docs/instrumenting/exposition_formats).
struct MetricsRoute {
  let engine: Engine
  /// Bytes of the adapters in memory.
  let adapterBytes: Int
  /// Adapters in memory.
  let adapterCount: Int

  func answer(_ exchange: HTTPExchange) {
    exchange.respond(
      status: 200, headers: ["Content-Type": "text/plain; version=0.0.4; charset=utf-8"], body: Array(text.utf8))
  }

  var text: String {
    let state = engine.metrics.snapshot
    var page = PrometheusText()
    page.family("graft_build_info", .gauge, "1; its labels are the version, the compute mode and the kernels in use.")
    page.sample(
      "graft_build_info",
      [
        ("version", graftVersion), ("compute", engine.compute.mode.rawValue),
        ("kernels", engine.compute.kernels.instructionSet.rawValue),
      ], 1)
    perAdapter(state, &page)
    page.value(
      "graft_requests_running", .gauge, "Requests that have been admitted and not ended.", Double(state.running))
    page.histogram(
      "graft_time_to_first_token_seconds", "From a request's submission to its first token.", state.timeToFirstToken)
    page.histogram(
      "graft_inter_token_latency_seconds", "From a token of a request to its next.", state.interToken)
    page.histogram("graft_batch_rows", "Rows of a forward pass.", state.batchRows)
    page.histogram("graft_step_seconds", "Time of a forward pass with its sampling.", state.stepSeconds)
    page.value(
      "graft_engine_turn_age_seconds", .gauge,
      "How long the engine has had work at hand without coming round; seconds only if it hangs.",
      engine.turnAge / .seconds(1))
    page.value(
      "graft_preemptions_total", .counter, "Requests put back into the queue for want of cache blocks.",
      Double(state.preemptions))
    page.value(
      "graft_draft_tokens_total", .counter, "Tokens that were computed before it was known that they come next.",
      Double(state.draftTokens))
    page.value(
      "graft_draft_tokens_accepted_total", .counter, "Those among them that did come next.",
      Double(state.acceptedDraftTokens))
    page.value("graft_training_seconds_total", .counter, "Time that training took.", state.trainingSlices.sum)
    page.histogram(
      "graft_training_slice_seconds", "What a request may wait for: a slice of training.", state.trainingSlices)
    cache(state, &page)
    page.value("graft_adapters_loaded", .gauge, "Adapters in memory.", Double(adapterCount))
    page.value("graft_adapter_memory_bytes", .gauge, "Memory of the loaded adapters.", Double(adapterBytes))
    return page.text
  }

  private func perAdapter(_ state: EngineMetrics.State, _ page: inout PrometheusText) {
    func family(_ name: String, _ kind: PrometheusText.Kind, _ help: String, _ value: (EngineMetrics.Counts) -> Int) {
      page.family(name, kind, help)
      for (label, counts) in zip(state.labels, state.counts) {
        page.sample(name, [("adapter", label)], Double(value(counts)))
      }
    }
    family("graft_prompt_tokens_total", .counter, "Tokens of prompts, cached ones included.", \.promptTokens)
    family("graft_generated_tokens_total", .counter, "Tokens generated.", \.generatedTokens)
    family("graft_queue_length", .gauge, "Requests that wait for admission, preempted ones included.", \.waiting)
    let name = "graft_requests_total"
    page.family(name, .counter, "Requests (choices of one count apart) by how they ended.")
    for (label, counts) in zip(state.labels, state.counts) {
      for (outcome, count) in zip(EngineMetrics.Outcome.allCases, counts.requests) {
        page.sample(name, [("adapter", label), ("outcome", outcome.rawValue)], Double(count))
      }
    }
  }

  private func cache(_ state: EngineMetrics.State, _ page: inout PrometheusText) {
    let parts = [("used", state.blocksUsed), ("cached", state.blocksCached), ("total", state.blocksTotal)]
    page.family(
      "graft_kv_blocks", .gauge, "Blocks of the key-value cache: held by requests, kept for prefixes, in all.")
    for (part, count) in parts { page.sample("graft_kv_blocks", [("state", part)], Double(count)) }
    page.family("graft_kv_bytes", .gauge, "The same in bytes.")
    for (part, count) in parts {
      page.sample("graft_kv_bytes", [("state", part)], Double(count) * Double(state.bytesPerBlock))
    }
    page.value(
      "graft_prefix_cache_queries_total", .counter, "Requests that looked for their beginning in the cache.",
      Double(state.prefixQueries))
    page.value(
      "graft_prefix_cache_hits_total", .counter, "Requests that found some of it.", Double(state.prefixHits))
    page.value(
      "graft_prefix_cache_hit_tokens_total", .counter, "Tokens of prompts that were found.",
      Double(state.prefixHitTokens))
    page.value(
      "graft_prefix_cache_evictions_total", .counter, "Blocks forgotten to make room.", Double(state.evictions))
  }
}

/// Writes metrics in Prometheus' text format.
struct PrometheusText {
  enum Kind: String { case counter, gauge, histogram }

  private(set) var text = ""

  /// Begins a metric with its description and kind.
  mutating func family(_ name: String, _ kind: Kind, _ help: String) {
    text += "# HELP \(name) \(help)\n# TYPE \(name) \(kind.rawValue)\n"
  }

  /// Adds a value of the metric that was begun.
  mutating func sample(_ name: String, _ labels: [(name: String, value: String)], _ value: Double) {
    let list = labels.map { "\($0.name)=\"\(Self.escaped($0.value))\"" }.joined(separator: ",")
    let number = value == value.rounded() && abs(value) < 1e15 ? "\(Int(value))" : "\(value)"
    text += list.isEmpty ? "\(name) \(number)\n" : "\(name){\(list)} \(number)\n"
  }

  /// A metric of one value without labels.
  mutating func value(_ name: String, _ kind: Kind, _ help: String, _ value: Double) {
    family(name, kind, help)
    sample(name, [], value)
  }

  /// A histogram with its buckets, sum and count.
  mutating func histogram(_ name: String, _ help: String, _ histogram: Histogram) {
    family(name, .histogram, help)
    var sum = 0
    for (bound, count) in zip(histogram.bounds, histogram.counts) {
      sum += count
      sample(name + "_bucket", [("le", "\(bound)")], Double(sum))
    }
    sample(name + "_bucket", [("le", "+Inf")], Double(histogram.count))
    sample(name + "_sum", [], histogram.sum)
    sample(name + "_count", [], Double(histogram.count))
  }

  private static func escaped(_ value: String) -> String {
    var result = ""
    for scalar in value.unicodeScalars {
      switch scalar {
      case "\\": result += "\\\\"
      case "\"": result += "\\\""
      case "\n": result += "\\n"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}
