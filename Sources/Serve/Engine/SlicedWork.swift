/// Work that the engine does beside requests, a slice of a few milliseconds at a time: training.
///
/// All calls come from the engine's thread.
protocol SlicedWork: AnyObject, Sendable {
  /// Does one slice.
  func advance() -> SliceOutcome
  /// The engine stops and will not come back.
  func engineStops()
}

enum SliceOutcome: Sendable {
  case more
  /// Nothing can be done until `Engine.resumeWork`.
  case waiting
  case done
}
