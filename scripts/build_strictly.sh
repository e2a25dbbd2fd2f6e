#!/usr/bin/env bash
# Builds with `swift build` and the given arguments, and fails when a source of this package draws a warning.
# (-warnings-as-errors would reach the dependencies too, where it contradicts SwiftPM's -suppress-warnings.)
set -euo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
swift build "$@" 2>&1 | tee "$log"

warnings=$(awk -v sources="$PWD/Sources/" -v tests="$PWD/Tests/" -v examples="$PWD/examples/" '
  (index($0, sources) == 1 || index($0, tests) == 1 || index($0, examples) == 1) && /: warning: / && !seen[$0]++' "$log")
if [ -n "$warnings" ]; then
  printf '\nWarnings are not allowed:\n%s\n' "$warnings" >&2
  # So that the next build meets them again.
  cut -d: -f1 <<<"$warnings" | sort -u | xargs -d '\n' touch
  exit 1
fi
