#!/usr/bin/env bash
# Makes the pictures in docs/images again, from the pages that the console's tests open. Needs .build/release/graft.
set -euo pipefail
cd "$(dirname "$0")/.."
pictures=$(mktemp -d)
trap 'rm -rf "$pictures"' EXIT
CONSOLE_PICTURES=$pictures .build-venv/bin/python -m pytest -p no:cacheprovider -q Tests/Console -k everyone_can_read
for picture in docs/images/*.png; do cp "$pictures/$(basename "$picture")" "$picture"; done
