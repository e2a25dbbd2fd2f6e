import Formats
import Foundation

/// A PEFT folder whose configuration and tensor names have been checked. Its parts are read one by one, so that a
/// conversion never holds more than one of them in f32.
struct PEFTReader {
  /// What the adapter changes of a projection.
  struct ProjectionChange {
    let layer: Int
    let projection: Projection
    /// LoRA's factors.
    let lora: TargetedProjection?
    /// Whether IA3 scales the input, or the output; `nil` without IA3.
    let scalesInput: Bool?
    /// The tensor of a bias in place of the base's.
    let bias: String?

    var fullName: String { projection.fullName(layer: layer) }
  }

  let peft: PEFTConfig
  /// What LoRA targets of projections.
  let projections: [TargetedProjection]
  /// In the order of layers, then of `ModelConfig.projections`.
  let changes: [ProjectionChange]
  /// Norms, embedding and head.
  let others: PEFTOtherModules
  let weights: PEFTWeights
  let config: ModelConfig

  private static let configLimit = 4 << 20

  /// - Throws: `ModelError` naming the field or tensor that is wrong, not supported, or beyond the scope
  init(folder: URL, config: ModelConfig, scope: PEFTScope = .factors) throws {
    try PEFTFolder.check(folder)
    let text = try MappedFile.contents(
      of: folder.appendingPathComponent(PEFTFolder.configurationFile), limit: Self.configLimit)
    peft = try PEFTConfig(text, file: PEFTFolder.configurationFile, scope: scope)
    // Whatever is wrong with the file is said after what is wrong with the configuration.
    let spelling = (try? SafetensorsFile(folder.appendingPathComponent(PEFTFolder.weightsFile))).map {
      PEFTWeights.Spelling($0)
    }
    let targets = try PEFTTargets(peft, config: config, spelling: spelling ?? .own)
    if scope == .factors { try targets.checkFactors(file: peft.file) }
    projections = targets.projections
    self.config = config
    try PEFTFolder.checkWeights(folder)
    let file = try SafetensorsFile(folder.appendingPathComponent(PEFTFolder.weightsFile))
    let weights = try PEFTWeights(file)
    others = try PEFTOtherModules(peft, targets, weights, config: config)
    changes = Self.changes(targets, weights, config: config)
    try weights.checkNames(
      wanted: Self.wanted(targets, peft).union(others.names), allowed: Set(changes.compactMap(\.bias)))
    self.weights = weights
    if scope == .factors {
      if let name = others.names.min() {
        throw ModelError(weights.subject, name, reason: "is a table beside the base's, which \(PEFTScope.servedOnly)")
      }
      if let name = changes.compactMap(\.bias).min() {
        throw ModelError(weights.subject, name, reason: PEFTScope.servedOnly)
      }
    }
  }

  /// Reads the update of a projection.
  /// - Throws: `ModelError` naming the tensor that has the wrong shape or values that are not finite
  func update(_ target: TargetedProjection) throws -> PEFTAdapter.Update {
    let shape = target.projection.shape(config)
    func read(_ part: PEFTTensorName.Part, _ shape: [Int]) throws -> [Float] {
      try weights.read(PEFTTensorName.name(target.projection, layer: target.layer, part), shape: shape)
    }
    return PEFTAdapter.Update(
      layer: target.layer, projection: target.projection, rank: target.rank, scale: target.scale,
      a: try read(.a, [target.rank, shape.input]), b: try read(.b, [shape.output, target.rank]),
      magnitude: peft.usesDoRA ? try read(.magnitude, [shape.output]) : nil)
  }

  /// B's bias, not scaled yet; `nil` if the adapter has none.
  func loraBias(_ module: String, outputs: Int) throws -> [Float]? {
    peft.usesLoRABias
      ? try weights.read(PEFTTensorName.prefix + module + PEFTTensorName.biasSuffix, shape: [outputs]) : nil
  }

  /// IA3's factors of a projection's inputs or outputs.
  func scaling(_ change: ProjectionChange) throws -> [Float] {
    let (shape, name) = (change.projection.shape(config), Self.scalingName(change.fullName))
    return change.scalesInput == true
      ? try weights.read(name, shape: [1, shape.input]) : try weights.read(name, shape: [shape.output, 1])
  }

  private static func scalingName(_ module: String) -> String { PEFTTensorName.prefix + module + ".ia3_l" }

  /// The tensors that the targets must have.
  private static func wanted(_ targets: PEFTTargets, _ peft: PEFTConfig) -> Set<String> {
    let parts: [PEFTTensorName.Part] = peft.usesDoRA ? PEFTTensorName.Part.allCases : [.a, .b]
    var wanted: Set<String> = []
    for target in targets.projections {
      let name = target.projection.fullName(layer: target.layer)
      for part in parts { wanted.insert(PEFTTensorName.name(target.projection, layer: target.layer, part)) }
      if peft.usesLoRABias { wanted.insert(PEFTTensorName.prefix + name + PEFTTensorName.biasSuffix) }
    }
    for target in targets.scaled { wanted.insert(scalingName(target.projection.fullName(layer: target.layer))) }
    return wanted
  }

  private static func changes(
    _ targets: PEFTTargets, _ weights: PEFTWeights, config: ModelConfig
  ) -> [ProjectionChange] {
    struct Key: Hashable {
      let layer: Int
      let projection: Projection
    }
    let lora = Dictionary(
      targets.projections.map { (Key(layer: $0.layer, projection: $0.projection), $0) },
      uniquingKeysWith: { first, _ in first })
    let scaled = Dictionary(
      targets.scaled.map { (Key(layer: $0.layer, projection: $0.projection), $0.isFeedForward) },
      uniquingKeysWith: { first, _ in first })
    return (0..<config.layerCount).flatMap { layer in
      config.projections.compactMap { projection in
        let key = Key(layer: layer, projection: projection)
        // PEFT saves the base's biases where `bias` says that they are trained.
        let name = "\(PEFTTensorName.prefix)\(projection.fullName(layer: layer)).bias"
        let bias = config.architecture.biases.contains(projection) && weights.has(name) ? name : nil
        guard lora[key] != nil || scaled[key] != nil || bias != nil else { return nil }
        return ProjectionChange(
          layer: layer, projection: projection, lora: lora[key], scalesInput: scaled[key], bias: bias)
      }
    }
  }
}
