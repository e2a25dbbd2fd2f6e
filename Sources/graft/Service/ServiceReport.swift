import Foundation
import Logging
import Serve

/// Tells the service manager how the server is. Does nothing if there is none. What cannot be sent is logged.
struct ServiceReport: Sendable {
  let manager: ServiceManager?
  let logger: Logger

  init(logger: Logger) {
    manager = ServiceManager(environment: ProcessInfo.processInfo.environment)
    self.logger = logger
  }

  func loading(_ model: String) { tell(.status("loading \(model)")) }

  /// The server answers requests. From now on the loop sends signs of life, as often as the manager wants them, while
  /// `isAlive` is true.
  func ready(_ status: String, on loop: EventLoop, isAlive: @escaping @Sendable () -> Bool) {
    tell(.ready, .status(status))
    guard let time = manager?.watchdogTime else { return }
    loop.execute { keepAlive(every: time / 2, on: loop, isAlive) }
  }

  func stopping() { tell(.stopping, .status("stopping")) }

  private func keepAlive(every interval: Duration, on loop: EventLoop, _ isAlive: @escaping @Sendable () -> Bool) {
    if isAlive() { tell(.alive) }
    loop.schedule(after: interval) { keepAlive(every: interval, on: loop, isAlive) }
  }

  private func tell(_ messages: ServiceManager.Message...) {
    do { try manager?.tell(messages) } catch { logger.warning("\(error)") }
  }
}
