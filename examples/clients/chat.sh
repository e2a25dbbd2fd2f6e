#!/usr/bin/env bash
# The adapters that are loaded, and a streamed chat with one of them.
set -euo pipefail
url="${GRAFT_URL:-http://localhost:8080/v1}"
curl -sS --fail-with-body "$url/models"
curl -sS --fail-with-body -N "$url/chat/completions?adapter=pirate" -H 'content-type: application/json' -d '{
  "messages": [{"role": "user", "content": "What is the capital of France?"}],
  "max_tokens": 40, "temperature": 0, "stream": true}'
