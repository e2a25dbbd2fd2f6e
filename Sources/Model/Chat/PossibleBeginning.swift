extension Array<UInt8> {
  /// How many bytes at the end may be the beginning of a text that is not complete yet, such as a tag or a stop string.
  package func lengthOfBeginning(of text: [UInt8]) -> Int {
    for length in stride(from: Swift.min(text.count - 1, count), to: 0, by: -1)
    where suffix(length).elementsEqual(text.prefix(length)) { return length }
    return 0
  }
}
