"""Whether an adapter does in llama-server what it does in Graft."""

import serving_adapters
from peers import PEERS, ROOT, SMALL
from serving_servers import Graft, LlamaServer

TEXT = ROOT / "Benchmarks/text/declaration-and-constitution.txt"
PROMPTS, LENGTH = 6, 160  # of so many characters
NF4 = [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
       -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
       0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0]


def nf4_model():
    """The base as Graft sees it: linear weights in NF4 (blocks of 64), written as f16 for llama.cpp."""
    np, gguf = serving_adapters.packages()
    path = PEERS / "135m-NF4-as-F16.gguf"
    if path.exists():
        return path
    reader, partial = gguf.GGUFReader(SMALL), path.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            kind = field.types[0]
            inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), kind, inner)
    code = np.array(NF4, np.float32)
    middles = (code[1:] + code[:-1]) / 2
    for tensor in reader.tensors:
        if tensor.name.startswith("blk.") and "norm" not in tensor.name:
            blocks = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(-1, 64)
            largest = np.abs(blocks).max(1, keepdims=True)
            values = code[np.searchsorted(middles, blocks / np.where(largest == 0, 1, largest))] * largest
            writer.add_tensor(tensor.name, values.reshape(tensor.shape[::-1]).astype(np.float16))
        else:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.rename(path)
    return path


def agreement(threads):
    """Compares the log-probabilities of the most probable next tokens after a few prompts, in Graft (f32) and in
    llama-server on the same NF4 weights: without adapter, with one on all modules, and with one on q and k alone, whose
    rows the conversion puts in another order. Beside the difference, by how much the adapter itself moves them."""
    np, _ = serving_adapters.packages()
    text = TEXT.read_text()
    prompts = [text[start:start + LENGTH] for start in range(2000, 2000 + PROMPTS * LENGTH, LENGTH)]
    # Large enough to move the distributions well.
    adapters = {"all linear modules": (serving_adapters.MODULES, 0.03), "q and k": (("q_proj", "k_proj"), 0.2)}
    results = {}
    for title, (modules, size) in adapters.items():
        folder, names, files = serving_adapters.make(f"check-{len(modules)}", 1, 16, modules, size, seed=99)
        servers = []
        try:
            servers.append(Graft(threads, folder, names, "--compute", "f32", name="graft-check"))
            servers.append(LlamaServer(threads, nf4_model(), files, slots=1, name="llama-check"))
            seen = {None: [], 0: []}
            for prompt in prompts:
                for adapter in seen:
                    pair = []
                    for server in servers:
                        with server:
                            pair.append(server.distribution(prompt, adapter))
                    seen[adapter].append(pair)
        finally:
            for server in servers:
                server.close()

        def difference(pairs):
            return float(np.mean([abs(a[token] - b[token]) for a, b in pairs for token in a if token in b]))

        results[title] = {
            "difference": difference(seen[0]), "difference_without": difference(seen[None]),
            "effect": difference([(without[0], applied[0]) for without, applied in zip(seen[None], seen[0])]),
        }
    return results
