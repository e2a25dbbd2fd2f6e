import CBusError

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A file's bytes in memory, read-only: they stay when the file is closed, and when it loses its name.
///
/// `@unchecked Sendable`: the mapping and its name are immutable and live until deinit.
package final class FileMapping: @unchecked Sendable {
  package let start: UnsafeRawPointer
  package let count: Int
  /// What a bus error inside the mapping finds the file's name by.
  private let name: UnsafeMutableRawPointer?

  /// MADV_POPULATE_READ of Linux 5.14, which older headers lack.
  private static let populateRead: Int32 = 22

  /// - Parameters:
  ///   - count: positive, the file's size
  ///   - path: what errors name
  init(descriptor: Int32, count: Int, path: String) throws {
    guard let mapping = mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0), mapping != MAP_FAILED else {
      throw ModelError(path, reason: "cannot be mapped: \(MappedFile.describe(errno))")
    }
    start = UnsafeRawPointer(mapping)
    self.count = count
    name = graft_remember_mapping(mapping, count, path)
  }

  deinit {
    graft_forget_mapping(name)
    munmap(UnsafeMutableRawPointer(mutating: start), count)
  }

  /// Brings every page in at once, so that whoever reads them later does not wait for the disk. An older system cannot;
  /// there reading them does the same page by page.
  /// - Returns: false if the disk fails, when reading would kill the process
  package func populate() -> Bool {
    while madvise(UnsafeMutableRawPointer(mutating: start), count, Self.populateRead) != 0 {
      guard errno == EINTR else { return errno == EINVAL }
    }
    return true
  }

  /// Gives the pages wholly inside a range back to the system's cache; touching them later brings them back.
  package func discard(_ bytes: UnsafeRawBufferPointer) {
    guard let start = bytes.baseAddress else { return }
    let page = Int(sysconf(Int32(_SC_PAGESIZE)))
    let first = (Int(bitPattern: start) + page - 1) / page * page
    let end = Int(bitPattern: start + bytes.count) / page * page
    if first < end { madvise(UnsafeMutableRawPointer(bitPattern: first), end - first, MADV_DONTNEED) }
  }
}
