/// The version of this build, which `graft --version` and `GET /version` report.
public let graftVersion = "0.2.0"
