import CZlib

/// Bytes in the gzip format (RFC 1952).
/// - Returns: `nil` if zlib has no memory, or if the bytes would not become fewer
func gzipped(_ bytes: [UInt8]) -> [UInt8]? {
  var stream = z_stream()
  guard graft_gzip_begin(&stream) == Z_OK else { return nil }
  defer { deflateEnd(&stream) }
  var input = bytes
  let output = [UInt8](unsafeUninitializedCapacity: bytes.count) { output, count in
    input.withUnsafeMutableBufferPointer { input in
      stream.next_in = input.baseAddress
      stream.avail_in = UInt32(input.count)
      stream.next_out = output.baseAddress
      stream.avail_out = UInt32(output.count)
      count = deflate(&stream, Z_FINISH) == Z_STREAM_END ? output.count - Int(stream.avail_out) : 0
    }
  }
  return output.isEmpty ? nil : output
}
