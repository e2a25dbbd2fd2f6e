/// The API's threads for work that waits for the disk or the database, so that the event loop does not.
struct BlockingPools: Sendable {
  /// Reads for lists and downloads, and short changes of files. Work here takes milliseconds at a time.
  let reading = WorkerPool(label: "api reading", threads: 4)
  /// Changes of the adapter store, one after the other. Registering an adapter takes long and much processor time, so
  /// this thread yields to those that compute.
  let registering = WorkerPool(label: "registering", threads: 1, niceness: 10)
}
