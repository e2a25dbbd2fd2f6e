#!/usr/bin/env bash
# Prints Graft's version, which Sources/Serve/Version.swift has.
set -euo pipefail
sed -nE 's/^public let graftVersion = "(.*)"$/\1/p' "$(dirname "$0")/../../Sources/Serve/Version.swift"
