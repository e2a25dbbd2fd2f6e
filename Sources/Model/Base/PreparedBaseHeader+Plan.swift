import Formats
import Kernels

extension PreparedBaseHeader {
  /// The header of a file that is about to be written, without checksums and fingerprint.
  /// - Returns: the header, and where the first section begins
  static func planned(
    _ layout: PreparedBaseLayout, config: ModelConfig, sourceHash: String
  ) throws -> (header: PreparedBaseHeader, dataStart: Int) {
    let blank = HeaderCodec.blankChecksum
    var header = PreparedBaseHeader(
      config: config, sourceHash: sourceHash, fingerprint: blank + blank, sections: [])
    // Sections begin after the header, and the header's length depends on the digits of their offsets: repeated until the
    // length does not change any more.
    var dataStart = 0
    while true {
      header.sections = sections(layout.entries, from: dataStart, checksum: blank)
      let end = pageAligned(try codec.encode(header).count)
      if end == dataStart { return (header, dataStart) }
      dataStart = end
    }
  }

  /// The sections with their offsets, each on pages of its own.
  private static func sections(
    _ entries: [PreparedBaseLayout.Entry], from start: Int, checksum: String
  ) -> [Section] {
    var offset = start
    return entries.map { entry in
      defer { offset += pageAligned(entry.length) }
      // Exponents are not known yet. The lowest one has the most characters, so the header cannot grow when the matrix's own
      // exponent replaces it.
      return .init(
        name: entry.name, offset: offset, length: entry.length, checksum: checksum,
        exponent: entry.content.isHalf ? HalfScale.exponents.lowerBound : nil)
    }
  }

  /// A length rounded up to whole pages.
  static func pageAligned(_ n: Int) -> Int { (n + pageSize - 1) / pageSize * pageSize }
}
