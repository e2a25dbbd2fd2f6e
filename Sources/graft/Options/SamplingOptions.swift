import ArgumentParser
import Model

/// How tokens are drawn: the options of every command that generates.
struct SamplingOptions: ParsableArguments {
  @Option(help: "0 takes the most probable token each time.")
  var temperature: Double = 0.7

  @Option(help: "Keeps the most probable tokens whose probabilities reach this sum.")
  var topP: Double = 1

  @Option(help: "The same seed and input give the same text.")
  var seed: UInt64?

  func validate() throws {
    guard (0...2).contains(temperature) else { throw ValidationError("--temperature must be between 0 and 2") }
    guard (0...1).contains(topP) else { throw ValidationError("--top-p must be between 0 and 1") }
  }

  /// The parameters. Without `--seed`, the seed is random.
  var parameters: SamplingParameters {
    SamplingParameters(
      temperature: Float(temperature), topP: Float(topP), seed: seed ?? .random(in: .min ... .max))
  }
}
