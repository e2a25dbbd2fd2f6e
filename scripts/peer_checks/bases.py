"""transformers computes the same for every class of models that Graft reads, from a folder and from GGUF."""

import random_folders
import transformers_model
from checks import agree, check

TOLERANCE = 1e-3
ROWS, LENGTH = 4, 100


@check(*(f"bases/{kind}" for kind in random_folders.MODELS), *(f"bases/{kind}-gguf" for kind in random_folders.WITH_GGUF))
def transformers_computes_the_same(workplace, name):
    """Compares the logprobs of random tokens. The linears' weights are values of NF4, so that both have the same."""
    kind = name.removesuffix("-gguf")
    settings, folder = random_folders.MODELS[kind], random_folders.folder(workplace, kind)
    # Some frequencies depend on the length. Graft chooses them by the context, transformers by the tokens.
    context = settings.get("context")
    rows = random_folders.rows(ROWS, settings.get("length", context or LENGTH))
    with workplace.serve(workplace.folder / "none", folder if kind == name else random_folders.gguf(folder),
                         *(["--context", context] if context else [])) as server:
        ours = [value for row in rows for value in server.logprobs("base", row)]
    model = transformers_model.load(folder)
    theirs = [value for row in rows for value in transformers_model.logprobs(model, row)]
    worst = max(abs(x - y) for x, y in zip(ours, theirs, strict=True))
    return agree(f"largest difference of {len(ours)} logprobs from {min(theirs):.1f} to {max(theirs):.1f}", worst, TOLERANCE)
