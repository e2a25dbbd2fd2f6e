import Synchronization

/// A request's place among those that wait. The engine releases it when the request starts or ends. If a request is
/// dropped before it reaches the engine, deinit releases it.
final class Admission: Sendable {
  /// Identifies the request. Requests that were admitted earlier have smaller values.
  let id: GenerationID
  let client: ClientIdentity
  /// When the request was admitted: its timeout and its time to the first token count from here.
  let time: ContinuousClock.Instant
  private let control: AdmissionControl
  private let isReleased = Atomic(false)

  /// Called by `AdmissionControl.admit` alone, which has counted the request.
  init(id: GenerationID, client: ClientIdentity, time: ContinuousClock.Instant, control: AdmissionControl) {
    (self.id, self.client, self.time, self.control) = (id, client, time, control)
  }

  deinit { release() }

  /// Stops counting the request. Without effect after the first call.
  func release() {
    if !isReleased.exchange(true, ordering: .relaxed) { control.release(client) }
  }
}
