/// The version of this build, as `graft --version` and `GET /version` tell it.
public let graftVersion = "0.2.0"
