/// The arithmetic of products with the base model's weights.
public enum ComputeMode: String, CaseIterable, Sendable {
  /// 32-bit floats: the reference.
  case f32
  /// Quantised products. With most instruction sets, activations and NF4 values are rounded within each block to 13-bit
  /// signed integers, whose products are summed exactly. With `InstructionSet.amx` and `.tileReference`, they are
  /// rounded to bf16. The output head is int8, adapters are bf16, keys and values int16.
  case fast
  /// The same as `fast`. On machines without bf16 instructions, integer products are faster than products of bf16
  /// numbers, and closer to `f32`.
  case bf16

  /// The element type of adapters' factors.
  public var adapterElement: LowRankFactors.Element { self == .f32 ? .f32 : .bf16 }
  /// The element type of the key-value cache.
  public var keyValueElement: KeyValueLayout.Element { self == .f32 ? .f32 : .int16 }
}
