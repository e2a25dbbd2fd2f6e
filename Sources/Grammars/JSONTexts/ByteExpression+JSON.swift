extension ByteExpression {
  /// Every way to write one of the texts as a JSON string.
  /// - Throws: if the texts are too long together
  public static func jsonStrings(
    _ texts: [String], budget: CompilationBudget = CompilationBudget()
  ) throws(GrammarError) -> ByteExpression {
    do throws(CompilationBudget.Exceeded) {
      for text in texts { try budget.spend(on: text) }
      let written = try TextExpression.any(of: texts).bytes(written: .json, budget)
      return .sequence([.literal("\""), written, .literal("\"")])
    } catch { throw .tooLarge(what: "units of work to make", limit: error.limit) }
  }
}
