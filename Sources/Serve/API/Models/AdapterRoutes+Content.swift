import Formats
import Foundation
import Logging
import Model

extension AdapterRoutes {
  /// `GET /v1/adapters/{name}/content`, or an adapter whose own name ends in "/content".
  func content(_ request: RoutedRequest) throws(APIError) {
    let name = request.captures["name"] ?? ""
    let longer = name + "/content"
    if store.listing(name) == nil, store.listing(longer) != nil { return try show(request, name: longer) }
    try download(request, name: name)
  }

  /// A version's files: a tar archive of the PEFT folder, or `?format=`.
  private func download(_ request: RoutedRequest, name: String) throws(APIError) {
    let number = try Self.version(request)
    let form = try AdapterForm(request) ?? .peft
    guard let listing = store.listing(name), case let record = listing.record, number != nil || record.current != nil
    else {
      throw .modelNotFound(name, param: "name")
    }
    guard let version = number.map({ record.version($0) }) ?? record.current else {
      throw .invalid(
        "the adapter '\(name)' has no version \(number ?? 0)", param: "version", code: "model_not_found", status: 404)
    }
    // The sizes of another base's adapter are not this base's.
    if form != .peft, case .incompatible(let reason)? = listing.versionStates[version.number] {
      throw AdapterError(.incompatible, reason).apiError(param: "name")
    }
    // A name from before the rules for names could lead out of the folder where the archive is unpacked.
    let folder = AdapterName.isValid(name) ? name : "adapter"
    let (exchange, contents, base, logger) = (request.exchange, store.contents, base, logger)
    pools.reading.async { [pools] in
      let download = Result { try AdapterDownload(form, contents, version, base: base, folder: folder) }
      exchange.loop.execute {
        switch download {
        case .success(let download):
          StreamedBody(download, to: exchange, on: pools.reading) { error in
            logger.error("download broken off", metadata: ["name": .string(name), "reason": .string("\(error)")])
          }
          .start(headers: Self.headers(folder, version, form), length: download.length)
        // The configuration was checked when the adapter was loaded, so it is the form that does not have what it says.
        case .failure(let error as ModelError) where error.subject.first == PEFTFolder.configurationFile:
          exchange.respond(.invalid("\(error)", param: "format", code: "invalid_value"))
        case .failure(let error):
          exchange.respond(
            AdapterError(.damaged, "the adapter's stored contents cannot be used: \(error)").apiError(param: "name"))
        }
      }
    }
  }

  private static func headers(_ folder: String, _ version: AdapterVersion, _ form: AdapterForm) -> HTTPHeaders {
    let file = String(folder.map { "/:".contains($0) ? "-" : $0 })
    return [
      "Content-Type": form.mediaType,
      "Content-Disposition":
        "attachment; filename=\"\(file)@\(version.number).\(form == .gguf ? "gguf" : "tar")\"",
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

extension AdapterForm {
  /// `?format=`; `nil` without it.
  init?(_ request: RoutedRequest) throws(APIError) {
    let values = request.exchange.request.queryItems.filter { $0.name == "format" }.map(\.value)
    guard let value = values.first else { return nil }
    guard values.count == 1, let form = AdapterForm(rawValue: value) else {
      let names = Self.allCases.map(\.rawValue).joined(separator: ", ")
      throw .invalid("'format' must be one of \(names)", param: "format", code: "invalid_value")
    }
    self = form
  }
}
