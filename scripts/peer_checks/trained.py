"""PEFT reads what `graft train` writes, and both then compute the same."""

from checks import ADAPTERS, agree, check


@check(*[f"trained/{name}" for name in ADAPTERS])
def peft_computes_the_same(workplace, name):
    """Compares the logprobs of rows that were not trained on, over the same NF4 base."""
    import transformers_model

    rows = workplace.prompts()
    adapter = workplace.adapter(name)
    with workplace.serve(workplace.adapters) as server:
        ours = [server.logprobs(name, row) for row in rows]
    model = transformers_model.with_adapter(transformers_model.load(workplace.model(), nf4=True), adapter)
    theirs = [transformers_model.logprobs(model, row) for row in rows]
    pairs = [(x, y) for a, b in zip(ours, theirs, strict=True) for x, y in zip(a, b, strict=True)]
    return agree(f"largest difference of {len(pairs)} logprobs", max(abs(x - y) for x, y in pairs), 1e-3)
