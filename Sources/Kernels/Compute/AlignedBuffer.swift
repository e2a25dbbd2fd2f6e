#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Zeroed memory of a fixed size, aligned to a cache line (64 bytes) and freed when the buffer is.
///
/// `@unchecked Sendable`: the memory has no lock. The buffer's owner decides which thread writes where.
public final class AlignedBuffer<Element: BitwiseCopyable>: @unchecked Sendable {
  /// The first element; valid as long as the buffer lives.
  public let pointer: UnsafeMutablePointer<Element>
  /// Elements.
  public let count: Int

  /// Allocates `count` elements of zeros. A count of 0 is allowed.
  public init(count: Int) {
    self.count = count
    let bytes = Swift.max(count * MemoryLayout<Element>.stride, 1)
    let raw = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 64)
    memset(raw, 0, bytes)
    pointer = raw.bindMemory(to: Element.self, capacity: count)
  }

  deinit { UnsafeMutableRawPointer(pointer).deallocate() }

  /// Bytes of all elements.
  public var bytes: Int { count * MemoryLayout<Element>.stride }
  /// All elements.
  public var buffer: UnsafeMutableBufferPointer<Element> { .init(start: pointer, count: count) }
  /// The element at index `i`, which is checked in debug builds.
  public subscript(i: Int) -> Element {
    get { buffer[i] }
    set { buffer[i] = newValue }
  }
}
