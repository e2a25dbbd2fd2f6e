"""What check_openapi.py changes in schemathesis' requests."""

import schemathesis

GENERATING = ("/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/embeddings")


@schemathesis.hook
def before_call(context, case, kwargs):
    """Gives requests for text a deadline, so that no request computes for long."""
    if case.path in GENERATING and isinstance(case.body, dict):
        case.body.setdefault("timeout", 1)
