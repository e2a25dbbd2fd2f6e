import Foundation
import Logging
import Model

extension AdapterRoutes {
  private static let contentSegment = "content"

  /// The name of `/v1/adapters/{name}/content`; `nil` for a path that is an adapter's own. A name may have slashes, and
  /// end in "/content".
  func contentName(_ request: RoutedRequest) -> String? {
    let name = request.captures["name"] ?? ""
    let suffix = "/" + Self.contentSegment
    guard request.exchange.request.path.last == Self.contentSegment, name.hasSuffix(suffix) else { return nil }
    let shorter = String(name.dropLast(suffix.count))
    return store.listing(shorter) == nil && store.listing(name) != nil ? nil : shorter
  }

  /// The PEFT files of a version as a tar archive.
  func download(_ request: RoutedRequest, name: String) throws(APIError) {
    let number = try Self.version(request)
    guard let record = store.listing(name)?.record, number != nil || record.current != nil else {
      throw .modelNotFound(name, param: "name")
    }
    guard let version = number.map({ record.version($0) }) ?? record.current else {
      throw .invalid(
        "the adapter '\(name)' has no version \(number ?? 0)", param: "version", code: "model_not_found", status: 404)
    }
    // A name from before the rules for names could lead out of the folder where the archive is unpacked.
    let folder = AdapterName.isValid(name) ? name : "adapter"
    let (exchange, contents, logger) = (request.exchange, store.contents, logger)
    pools.reading.async { [pools] in
      let archive = Result { try AdapterArchive(contents, version, folder: folder) }
      exchange.loop.execute {
        switch archive {
        case .success(let archive):
          StreamedBody(archive, to: exchange, on: pools.reading) { error in
            logger.error("download broken off", metadata: ["name": .string(name), "reason": .string("\(error)")])
          }
          .start(headers: Self.headers(folder, version), length: archive.length)
        case .failure(let error):
          exchange.respond(
            AdapterError(.damaged, "the adapter's stored contents cannot be used: \(error)").apiError(param: "name"))
        }
      }
    }
  }

  private static func headers(_ folder: String, _ version: AdapterVersion) -> HTTPHeaders {
    let file = String(folder.map { "/:".contains($0) ? "-" : $0 })
    return [
      "Content-Type": "application/x-tar",
      "Content-Disposition": "attachment; filename=\"\(file)@\(version.number).tar\"",
    ]
  }

  /// `?version=N`
  static func version(_ request: RoutedRequest) throws(APIError) -> Int? {
    let versions = request.exchange.request.queryItems.filter { $0.name == "version" }.map(\.value)
    let number = versions.first.flatMap { Int($0) }
    guard versions.count <= 1, versions.isEmpty || (number ?? 0) > 0 else {
      throw .invalid("'version' must be one positive integer", param: "version", code: "invalid_value")
    }
    return number
  }
}
