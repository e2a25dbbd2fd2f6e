import Formats
import ArgumentParser
import Foundation
import Model
import Train

/// The hyperparameters as options. Their names are the wire's with dashes, and their values the wire's ("auto" for the
/// default).
struct HyperparameterOptions: ParsableArguments {
  @Option(help: "Times that the data is gone through (default: 3).") var nEpochs: String?
  @Option(help: "Optimiser steps, instead of epochs.") var maxSteps: String?
  @Option(help: "Rows of a microbatch (default: 4).") var batchSize: String?
  @Option(help: "Microbatches of an optimiser step (default: 1).") var gradientAccumulationSteps: String?
  @Option(help: "The highest learning rate (default: 2e-4).") var learningRate: String?
  @Option(help: "The same as a multiple of 2e-4.") var learningRateMultiplier: String?
  @Option(help: "constant, linear or cosine (default: cosine).") var scheduler: String?
  @Option(help: "Share of the steps over which the rate rises (default: 0.03, 0 for constant).")
  var warmupRatio: String?
  @Option(help: "AdamW's weight decay (default: 0).") var weightDecay: String?
  @Option(help: "AdamW's first beta (default: 0.9).") var adamBeta1: String?
  @Option(help: "AdamW's second beta (default: 0.999).") var adamBeta2: String?
  @Option(help: "AdamW's epsilon (default: 1e-8).") var adamEpsilon: String?
  @Option(help: "Gradients are clipped to this norm; 0 does not clip (default: 1).") var maxGradNorm: String?
  @Option(help: "The adapter's rank (default: 16).") var loraR: String?
  @Option(help: "The adapter's alpha; its scale is alpha / rank (default: 32).") var loraAlpha: String?
  @Option(help: "Dropout on the adapter's input (default: 0).") var loraDropout: String?
  @Option(help: "Scale by alpha / √rank: true or false.") var useRslora: String?
  @Option(help: "Train magnitudes apart from directions: true or false.") var useDora: String?
  @Option(help: "How much faster B learns than A (default: 1).") var loraplusLrRatio: String?
  @Option(help: "Modules, with commas between, a pattern, or all-linear (default).") var targetModules: String?
  @Option(help: "Modules that are left out.") var excludeModules: String?
  @Option(help: "Layers that are adapted, with commas between (default: all).") var layersToTransform: String?
  @Option(help: "Ranks by module pattern, as JSON.") var rankPattern: String?
  @Option(help: "Alphas by module pattern, as JSON.") var alphaPattern: String?
  @Option(help: "Longer rows are cut (default: 2048).") var maxSeqLength: String?
  @Option(help: "Several rows share a pass: true (default) or false.") var packing: String?
  @Option(help: "Each epoch has an order of its own: true (default) or false.") var shuffle: String?
  @Option(help: "Share of the rows that is held out (default: 0).") var validationSplit: String?
  @Option(help: "Validations without improvement before the end (default: 0, never).")
  var earlyStoppingPatience: String?
  @Option(help: "Optimiser steps between checkpoints (default: a tenth of the run, at most 100).")
  var checkpointSteps: String?
  @Option(help: "An adapter to go on from: a PEFT or MLX-LM folder, or a GGUF file.") var initAdapter: String?
  @Option(help: "DPO's temperature (default: 0.1).") var beta: String?

  /// The hyperparameters that were given, with the wire's names and values.
  var given: [(key: String, value: JSONValue)] {
    texts.compactMap { name, text in text.map { (key: name, value: Self.value(name, $0)) } }
  }

  /// The wire's names of the hyperparameters that were given, with their values as they were typed.
  var typed: [(name: String, text: String)] { texts.compactMap { name, text in text.map { (name, $0) } } }

  private var texts: [(name: String, text: String?)] {
    [
      ("n_epochs", nEpochs), ("max_steps", maxSteps), ("batch_size", batchSize),
      ("gradient_accumulation_steps", gradientAccumulationSteps), ("learning_rate", learningRate),
      ("learning_rate_multiplier", learningRateMultiplier), ("scheduler", scheduler), ("warmup_ratio", warmupRatio),
      ("weight_decay", weightDecay), ("adam_beta1", adamBeta1), ("adam_beta2", adamBeta2),
      ("adam_epsilon", adamEpsilon), ("max_grad_norm", maxGradNorm), ("lora_r", loraR), ("lora_alpha", loraAlpha),
      ("lora_dropout", loraDropout), ("use_rslora", useRslora), ("use_dora", useDora),
      ("loraplus_lr_ratio", loraplusLrRatio), ("target_modules", targetModules), ("exclude_modules", excludeModules),
      ("layers_to_transform", layersToTransform), ("rank_pattern", rankPattern), ("alpha_pattern", alphaPattern),
      ("max_seq_length", maxSeqLength), ("packing", packing), ("shuffle", shuffle),
      ("validation_split", validationSplit), ("early_stopping_patience", earlyStoppingPatience),
      ("checkpoint_steps", checkpointSteps), ("init_adapter", initAdapter), ("beta", beta),
    ]
  }

  private static let lists: Set<String> = ["target_modules", "exclude_modules", "layers_to_transform"]

  /// A value as it was typed, as the wire has it.
  static func value(_ name: String, _ text: String) -> JSONValue {
    // An absolute path, so that the run can be resumed from any folder.
    if name == "init_adapter", text != "auto" { return .string(URL(filePath: text).standardizedFileURL.path) }
    if name == "scheduler" { return .string(text) }
    if lists.contains(name), text.contains(","), !text.hasPrefix("["), !text.contains("(") {
      return .array(text.split(separator: ",").map { scalar($0.trimmingCharacters(in: .whitespaces)) })
    }
    return scalar(text)
  }

  private static func scalar(_ text: String) -> JSONValue {
    (try? JSONValue.parse(text.utf8, subject: "value")) ?? .string(text)
  }
}
