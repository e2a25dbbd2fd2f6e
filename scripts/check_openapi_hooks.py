"""What check_openapi.py changes in schemathesis' requests."""

import zlib

import schemathesis

GENERATING = ("/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/embeddings")
# Of the folder examples/adapters, which the server has.
ADAPTERS = ("base", "pirate", "shout:0.5", "pirate@1", "pirate:0.3,shout")


@schemathesis.hook
def before_call(context, case, kwargs):
    """Gives requests for text a deadline, so that no request computes for long, and most requests a model that exists."""
    if isinstance(case.query, dict) and isinstance(case.query.get("adapter"), str):
        case.query["adapter"] = known(case.query["adapter"])
    # Most lists are read from their beginning: few names that are drawn are in them.
    if isinstance(case.query, dict) and isinstance(case.query.get("after"), str) and known(case.query["after"], ("",)) == "":
        case.query.pop("after")
    if not isinstance(case.body, dict):
        return
    if case.path in GENERATING:
        case.body.setdefault("timeout", 1)
    if isinstance(case.body.get("model"), str):
        case.body["model"] = known(case.body["model"], ("base",))
    if isinstance(case.body.get("lora_path"), str):
        case.body["lora_path"] = known(case.body["lora_path"], ("pirate", "shout"))
    if isinstance(case.body.get("adapter"), str):
        case.body["adapter"] = known(case.body["adapter"])
        # Two that differ would be refused.
        if isinstance(case.query, dict):
            case.query.pop("adapter", None)


def known(name, names=ADAPTERS):
    """A name that the server knows, or in one of four cases the name as it is."""
    number = zlib.crc32(name.encode("utf-8", "surrogatepass"))
    return name if number % 4 == 0 else names[number // 4 % len(names)]
