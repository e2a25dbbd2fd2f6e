import Kernels
import Testing
import TestSupport

@testable import Model

/// Draws with a mask.
@Suite struct TokenMaskTests {
  @Test func onlyAllowedTokensAreDrawn() {
    let compute = Compute(kernels: .best, pool: ThreadPool(threads: 1), mode: .f32)
    let count = 203
    let logits = (0..<count).map { Float(($0 * 37) % 101) / 10 }
    let allowed: [Int32] = [0, 31, 32, 64, 200]
    var mask = TokenMask(count: count)
    for token in allowed { mask.insert(token) }
    let workspace = SamplingWorkspace(vocabularySize: count)
    logits.withUnsafeBufferPointer { values in
      let row = LogitRow(values, compute: compute)
      for parameters in [
        SamplingParameters(temperature: 0, seed: 1), SamplingParameters(temperature: 2, seed: 1),
        SamplingParameters(temperature: 1, topP: 0.5, seed: 1), SamplingParameters(temperature: 1, topK: 50, seed: 1),
        SamplingParameters(temperature: 2, minP: 0.01, logitBias: [5: 100], seed: 1),
      ] {
        let sampler = Sampler(parameters)
        var seen: Set<Int32> = []
        for index in 0..<200 {
          seen.insert(sampler.draw(row, index: index, mask: mask, compute: compute, workspace: workspace))
        }
        #expect(seen.isSubset(of: allowed), "\(parameters)")
        if parameters.temperature == 0 {
          #expect(seen == [allowed.max { logits[Int($0)] < logits[Int($1)] } ?? -1])
        }
      }
    }
  }

  @Test func bitsAreSetAndCleared() {
    var mask = TokenMask(count: 40)
    #expect(mask.isEmpty && !mask.contains(39))
    mask.insert(39)
    #expect(mask.contains(39) && !mask.contains(7) && !mask.contains(1000))
    mask.remove(39)
    #expect(mask.isEmpty)
  }
}
