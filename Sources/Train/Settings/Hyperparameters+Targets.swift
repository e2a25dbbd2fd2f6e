public import Formats
public import Model

/// The modules that a model's adapter gets by these hyperparameters, and whether they agree with an existing adapter.
extension Hyperparameters {
  /// adapter_config.json as PEFT 0.21 reads it.
  func adapterConfiguration(baseName: String, model: ModelConfig) -> JSONValue {
    let allLinear = targetModules.string?.lowercased() == "all-linear"
    let names = JSONValue.array(model.projections.map { .string($0.shortName) })
    return [
      "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": .string(baseName), "bias": "none",
      "r": .integer(loraR), "lora_alpha": .number(loraAlpha), "lora_dropout": .number(loraDropout),
      "use_rslora": .bool(useRSLoRA), "use_dora": .bool(useDoRA), "fan_in_fan_out": false, "inference_mode": true,
      "init_lora_weights": true, "target_modules": allLinear ? names : targetModules,
      "exclude_modules": excludeModules, "layers_to_transform": layersToTransform, "layers_pattern": .null,
      "rank_pattern": rankPattern, "alpha_pattern": alphaPattern, "modules_to_save": .null,
    ]
  }

  /// The modules of a new adapter, with their ranks and scales.
  /// - Throws: `HyperparameterError` naming what matches no module or layer of the model, and the names that would
  public func targets(_ model: ModelConfig) throws(HyperparameterError) -> [TargetedProjection] {
    let modules = model.projections.map(\.shortName).joined(separator: ", ")
    for (field, value) in [("target_modules", targetModules), ("exclude_modules", excludeModules)] {
      for name in (value.array ?? []).compactMap(\.string) where !Self.names(name, model) {
        throw HyperparameterError(
          field, "'\(name)' is no module of the model, which has \(modules); all-linear stands for all of them")
      }
    }
    let layers = layersToTransform.integer.map { [$0] } ?? (layersToTransform.array ?? []).compactMap(\.integer)
    for layer in layers where !(0..<model.layerCount).contains(layer) {
      throw HyperparameterError(
        "layers_to_transform", "there is no layer \(layer): the model has 0 to \(model.layerCount - 1)")
    }
    for (field, value) in [("rank_pattern", rankPattern), ("alpha_pattern", alphaPattern)] {
      for (key, _) in value.object?.pairs ?? [] where !Self.matches("(.*\\.)?(\(key))", model) {
        throw HyperparameterError(field, "'\(key)' matches no module of the model, which has \(modules)")
      }
    }
    do {
      return try TargetedProjection.all(in: adapterConfiguration(baseName: "base", model: model), model: model)
    } catch {
      throw translated(error, modules)
    }
  }

  /// Whether a list's entry names a linear module: by its short name, the end of its name, or all of it.
  private static func names(_ name: String, _ model: ModelConfig) -> Bool {
    (0..<model.layerCount).contains { layer in
      model.projections.contains { projection in
        let full = projection.fullName(layer: layer)
        return full == name || full.hasSuffix("." + name)
      }
    }
  }

  /// Whether a pattern matches the whole name of a linear module.
  private static func matches(_ pattern: String, _ model: ModelConfig) -> Bool {
    let configuration: JSONValue = ["peft_type": "LORA", "target_modules": .string(pattern)]
    return (try? TargetedProjection.all(in: configuration, model: model)) != nil
  }

  /// Turns an error of an adapter's configuration into an error of the hyperparameter that the field comes from.
  private func translated(_ error: any Error, _ modules: String) -> HyperparameterError {
    guard let error = error as? ModelError, let field = error.subject.last else {
      return HyperparameterError("target_modules", "\(error)")
    }
    if field == "target_modules", error.reason.contains("no module is targeted") {
      if !excludeModules.isNull {
        return HyperparameterError("exclude_modules", "leaves no module of those that target_modules names")
      }
      let given = targetModules.string ?? String(decoding: targetModules.encoded, as: UTF8.self)
      return HyperparameterError(
        field, "'\(given)' matches no module of the model, which has \(modules); all-linear stands for all of them")
    }
    return HyperparameterError(field, error.reason)
  }

  // MARK: agreement with an adapter

  /// Checks that the explicitly given settings agree with the adapter that training continues from. Settings that
  /// target the same modules agree, however they are written.
  /// - Parameter configuration: the adapter's adapter_config.json
  /// - Throws: `HyperparameterError` naming the setting that contradicts the adapter, and the adapter's value
  func checkAgreement(
    with adapter: PEFTAdapter, _ configuration: JSONValue, model: ModelConfig
  ) throws(HyperparameterError) {
    func check(_ field: String, _ agrees: Bool, _ value: String) throws(HyperparameterError) {
      guard agrees || !explicit.contains(field) else {
        throw HyperparameterError(field, "contradicts init_adapter, which has \(value)")
      }
    }
    try check("lora_r", loraR == adapter.rank, "\(adapter.rank)")
    try check("lora_alpha", loraAlpha == adapter.alpha, "\(adapter.alpha)")
    try check("use_rslora", useRSLoRA == adapter.usesRSLoRA, "\(adapter.usesRSLoRA)")
    try check("use_dora", useDoRA == adapter.usesDoRA, "\(adapter.usesDoRA)")

    let own = try? TargetedProjection.all(in: configuration, model: model)
    let asked = adapterConfiguration(baseName: "base", model: model).object
    /// The modules that are targeted if these fields have the given values, and all other fields the adapter's.
    func targets(_ fields: [String]) -> [TargetedProjection]? {
      let changed = fields.reduce(configuration) { $0.replacing($1, asked?[$1] ?? .null) }
      return try? TargetedProjection.all(in: changed, model: model)
    }
    let fields = ["target_modules", "exclude_modules", "layers_to_transform", "rank_pattern", "alpha_pattern"]
      .filter(explicit.contains)
    // The given settings may be equivalent to the adapter's only in combination; that is no contradiction either.
    if fields.isEmpty || targets(fields) == own { return }
    let culprit = fields.first { targets([$0]) != own } ?? fields[0]
    let value = configuration.object?[culprit] ?? .null
    try check(culprit, false, value.isNull ? "none" : String(decoding: value.encoded, as: UTF8.self))
  }
}

extension JSONValue {
  /// An object with one of its values replaced or added.
  func replacing(_ key: String, _ value: JSONValue) -> JSONValue {
    guard let object else { return self }
    var pairs = object.pairs.map { $0.key == key ? (key: key, value: value) : $0 }
    if object[key] == nil { pairs.append((key: key, value: value)) }
    return .object(JSONObject(keepingFirst: pairs))
  }
}
