#!/bin/bash
# Runs the tests of what threads share under ThreadSanitizer, in a copy of the package whose mutexes it understands.
#
#   scripts/check_threads.sh [filter of tests]
set -euo pipefail
cd "$(dirname "$0")/.."
copy=.build-threads/package
mkdir -p "$copy"
rm -rf "$copy/Sources" "$copy/Tests"
cp -a Package.swift Sources Tests "$copy/"
for target in Sources/* Tests/*; do
  if grep -rqs --include='*.swift' 'Mutex' "$target" && [ "$target" != Tests/Threads ]; then
    cp -p Tests/Threads/Mutex.swift "$copy/$target/ThreadsMutex.swift"
  fi
done
cd "$copy"
flags=(-c release -Xswiftc -enable-testing --sanitize=thread)
swift build "${flags[@]}" --build-tests
report=$(mktemp)
trap 'rm -f "$report"' EXIT
TSAN_OPTIONS="halt_on_error=0" swift test "${flags[@]}" --skip-build \
  --disable-xctest --filter "${1:-ServeTests|ThreadPoolTests}" > "$report" 2>&1 || failed=1
grep -E '^(WARNING|SUMMARY): ThreadSanitizer|✘' "$report" || true
tail -n 2 "$report"
[ -z "${failed:-}" ] && ! grep -q '^WARNING: ThreadSanitizer' "$report"
