import Synchronization

/// Whether a request's client has left, so that work for it can be dropped. Set on the event loop, read on any thread.
final class Abandonment: Sendable {
  private let flag = Atomic(false)

  var isSet: Bool { flag.load(ordering: .relaxed) }
  func set() { flag.store(true, ordering: .relaxed) }
}
