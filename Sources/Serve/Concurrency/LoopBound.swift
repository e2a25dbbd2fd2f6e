/// A value that belongs to an event loop: other threads may hold it, but only the loop's thread can read it.
///
/// `@unchecked Sendable`: `value` traps on every other thread.
struct LoopBound<Value>: @unchecked Sendable {
  private let content: Value
  private let loop: EventLoop

  init(_ value: Value, on loop: EventLoop) {
    content = value
    self.loop = loop
  }

  /// The same for a closure, in trailing position.
  init(on loop: EventLoop, _ value: Value) { self.init(value, on: loop) }

  var value: Value {
    loop.preconditionInLoop()
    return content
  }
}
