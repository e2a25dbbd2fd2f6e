#!/usr/bin/env bash
# An answer of a JSON schema.
set -euo pipefail
curl -sS --fail-with-body "${GRAFT_URL:-http://localhost:8080/v1}/chat/completions" -H 'content-type: application/json' -d '{
  "messages": [{"role": "user", "content": "Name a colour."}],
  "response_format": {"type": "json_schema", "json_schema": {"name": "colour", "schema": {
    "type": "object", "properties": {"colour": {"enum": ["red", "green", "blue"]}}, "required": ["colour"],
    "additionalProperties": false}}}}'
