public import Kernels

extension Base {
  /// One decoder layer's weights, for whoever computes with them outside a `Transformer`.
  ///
  /// `@unchecked Sendable`: the norms' pointers lead into memory that is never written and that `owner` keeps.
  public struct LayerWeights: @unchecked Sendable {
    public let inputNorm: UnsafePointer<Float>
    public let postAttentionNorm: UnsafePointer<Float>
    public let queryKeyValue: StackedLinear
    public let output: StackedLinear
    public let gateUp: StackedLinear
    public let down: StackedLinear
    private let owner: Base

    fileprivate init(_ layer: Layer, owner: Base) {
      inputNorm = layer.inputNorm
      postAttentionNorm = layer.postAttentionNorm
      queryKeyValue = layer.queryKeyValue
      output = layer.output
      gateUp = layer.gateUp
      down = layer.down
      self.owner = owner
    }
  }

  /// - Parameter layer: below `config.layerCount`
  public func weights(layer: Int) -> LayerWeights { LayerWeights(layers[layer], owner: self) }

  /// [hiddenSize]
  public var outputNorm: UnsafePointer<Float> { finalNorm }
  /// [vocabularySize, hiddenSize], as the compute mode keeps it.
  public var outputHead: Matrix { head }

  /// Copies a token's embedding, `hiddenSize` floats. The token is below the vocabulary's size.
  public func copyEmbedding(_ token: Int32, to out: UnsafeMutablePointer<Float>) {
    embedding.copyRow(Int(token), to: out)
  }
}
