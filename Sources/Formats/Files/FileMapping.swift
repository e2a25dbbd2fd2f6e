import CBusError

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A file's bytes, mapped read-only. They stay when the file is closed or deleted.
///
/// `@unchecked Sendable`: the pointers never change, and what they point to is not written to before deinit.
package final class FileMapping: @unchecked Sendable {
  /// The first byte, on a page.
  package let start: UnsafeRawPointer
  /// Bytes of the file when it was mapped.
  package let count: Int
  /// The file's name, as the bus error's handler finds it (CBusError).
  private let name: UnsafeMutableRawPointer?

  /// MADV_POPULATE_READ of Linux 5.14, which older headers lack.
  private static let populateRead: Int32 = 22

  /// - Parameters:
  ///   - count: positive, the file's size
  ///   - path: what errors name
  init(descriptor: Int32, count: Int, path: String) throws {
    guard let mapping = mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0), mapping != MAP_FAILED else {
      throw ModelError(path, reason: "cannot be mapped: \(systemMessage(errno))")
    }
    start = UnsafeRawPointer(mapping)
    self.count = count
    name = graft_remember_mapping(mapping, count, path)
  }

  deinit {
    graft_forget_mapping(name)
    munmap(UnsafeMutableRawPointer(mutating: start), count)
  }

  /// Reads every page from the disk, so that later reads do not wait for it. On Linux before 5.14 this does nothing,
  /// and each page is read from the disk when it is first used.
  /// - Returns: false if the disk fails; reading the bytes would then kill the process
  package func populate() -> Bool {
    while madvise(UnsafeMutableRawPointer(mutating: start), count, Self.populateRead) != 0 {
      guard errno == EINTR else { return errno == EINVAL }
    }
    return true
  }

  /// Unmaps the pages that are wholly inside a range from this process's memory; reading them later maps them again.
  package func discard(_ bytes: UnsafeRawBufferPointer) {
    guard let start = bytes.baseAddress else { return }
    let page = Int(sysconf(Int32(_SC_PAGESIZE)))
    let first = (Int(bitPattern: start) + page - 1) / page * page
    let end = Int(bitPattern: start + bytes.count) / page * page
    if first < end { madvise(UnsafeMutableRawPointer(bitPattern: first), end - first, MADV_DONTNEED) }
  }
}
