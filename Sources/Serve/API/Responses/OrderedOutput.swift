/// The parts of one streamed answer, in order. Those that take long to encode are encoded by a pool, and what comes after them
/// waits. Used on the target's loop only.
final class OrderedOutput {
  private enum Step {
    case encode(@Sendable () -> [UInt8])
    case write([UInt8])
    case end
  }

  private let target: any AnswerTarget
  private let pool: WorkerPool
  /// What waits for the part that is being encoded.
  private var waiting: [Step] = []
  private var isEncoding = false

  init(_ target: any AnswerTarget, pool: WorkerPool) {
    self.target = target
    self.pool = pool
  }

  /// Adds a part.
  /// - Parameters:
  ///   - isLarge: whether the pool encodes it
  ///   - make: encodes it; called once
  func write(isLarge: Bool = false, _ make: @escaping @Sendable () -> [UInt8]) {
    take(isLarge ? .encode(make) : .write(make()))
  }

  /// Ends the answer behind all parts.
  func end() { take(.end) }

  private func take(_ step: Step) {
    if isEncoding { waiting.append(step) } else { perform(step) }
  }

  private func perform(_ step: Step) {
    if target.isClosed { return }
    switch step {
    case .write(let bytes): target.write(bytes)
    case .end: target.end()
    case .encode(let make):
      isEncoding = true
      let (loop, output) = (target.loop, LoopBound(self, on: target.loop))
      pool.async {
        let bytes = make()
        loop.execute { output.value.finish(bytes) }
      }
    }
  }

  private func finish(_ bytes: [UInt8]) {
    isEncoding = false
    perform(.write(bytes))
    let steps = waiting
    waiting = []
    for step in steps { take(step) }
  }
}
