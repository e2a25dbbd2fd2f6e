import Synchronization

/// A request's ticket: it counts among those that wait until it is released, by the engine when the request starts or
/// ends, or because nobody holds the ticket any more.
final class Admission: Sendable {
  /// Identifies the request. Requests that were admitted earlier have smaller values.
  let id: GenerationID
  let client: ClientIdentity
  /// When the request was admitted: its timeout and its time to the first token count from here.
  let time: ContinuousClock.Instant
  private let control: AdmissionControl
  private let isReleased = Atomic(false)

  /// Made by `AdmissionControl.admit`, which has counted the request.
  init(id: GenerationID, client: ClientIdentity, time: ContinuousClock.Instant, control: AdmissionControl) {
    (self.id, self.client, self.time, self.control) = (id, client, time, control)
  }

  deinit { release() }

  /// Ends the count. Without effect after the first call.
  func release() {
    if !isReleased.exchange(true, ordering: .relaxed) { control.release(client) }
  }
}
