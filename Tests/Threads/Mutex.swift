import Glibc

/// Synchronization's `Mutex` on a pthread mutex, which ThreadSanitizer knows; scripts/check_threads.sh puts it into every
/// target that uses one. The library's own waits by system calls that the sanitizer does not see, so that it takes
/// everything behind one for a race.
///
/// `@unchecked Sendable`: the value is only reached behind the lock.
struct Mutex<Value: ~Copyable>: ~Copyable, @unchecked Sendable {
  private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let value = UnsafeMutablePointer<Value>.allocate(capacity: 1)

  init(_ initial: consuming sending Value) {
    pthread_mutex_init(lock, nil)
    value.initialize(to: initial)
  }

  deinit {
    pthread_mutex_destroy(lock)
    value.deinitialize(count: 1)
    lock.deallocate()
    value.deallocate()
  }

  borrowing func withLock<Result: ~Copyable, Failure: Error>(
    _ body: (inout sending Value) throws(Failure) -> sending Result
  ) throws(Failure) -> sending Result {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    return try body(&value.pointee)
  }
}
