#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Zeroed memory of a fixed size, aligned to a cache line, freed with its owner.
///
/// `@unchecked Sendable`: the memory has no lock; whoever holds the buffer decides which thread writes where.
public final class AlignedBuffer<Element: BitwiseCopyable>: @unchecked Sendable {
  public let pointer: UnsafeMutablePointer<Element>
  public let count: Int

  public init(count: Int) {
    self.count = count
    let bytes = Swift.max(count * MemoryLayout<Element>.stride, 1)
    let raw = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 64)
    memset(raw, 0, bytes)
    pointer = raw.bindMemory(to: Element.self, capacity: count)
  }

  deinit { UnsafeMutableRawPointer(pointer).deallocate() }

  public var bytes: Int { count * MemoryLayout<Element>.stride }
  public var buffer: UnsafeMutableBufferPointer<Element> { .init(start: pointer, count: count) }
  public subscript(i: Int) -> Element {
    get { buffer[i] }
    set { buffer[i] = newValue }
  }
}
