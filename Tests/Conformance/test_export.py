"""`graft export` and `GET /v1/adapters/{name}/content?format=`: the files that other programs read.

`make check-peers` compares them with those programs.
"""

import array
import io
import json
import math
import shutil
import struct
import tarfile

import pytest

from graft_server import FIXTURES, MODEL, ROOT, run, state_folder
from test_commands import one_line_error
from test_errors import check

PLAIN = FIXTURES / "adapters/r4-pattern"
DORA = FIXTURES / "adapters/r4-dora"
SIZES = {"hidden": 64, "inner": 128, "vocabulary": 8}


def done(*arguments):
    process = run("export", *arguments)
    assert process.returncode == 0, process.stderr.decode()
    return process


def write_safetensors(path, tensors):
    """f32 tensors: name, shape, values."""
    header, offset = {}, 0
    for name, (shape, values) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + 4 * len(values)]}
        offset += 4 * len(values)
    text = json.dumps(header).encode()
    data = b"".join(array.array("f", values).tobytes() for _, values in tensors.values())
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def read_safetensors(path):
    """Type, shape and bytes of each tensor."""
    data = path.read_bytes()
    length = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    return {
        name: (entry["dtype"], entry["shape"], data[slice(*(8 + length + end for end in entry["data_offsets"]))])
        for name, entry in header.items()
    }


def numbers(count, seed):
    """Between -1 and 1, in steps that f32 and the sums have exactly."""
    return [((seed * 7919 + i * 104729) % 513 - 256) / 256 for i in range(count)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A Llama of one layer, as a folder in f32, and an adapter of its q_proj with rank 1 and scale 2."""
    folder = tmp_path_factory.mktemp("tiny")
    model, adapter = folder / "model", folder / "adapter"
    model.mkdir(), adapter.mkdir()
    hidden, inner, vocabulary = SIZES.values()
    (model / "config.json").write_text(json.dumps({
        "model_type": "llama", "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": vocabulary, "tie_word_embeddings": True,
        "torch_dtype": "float32", "rms_norm_eps": 1e-5, "max_position_embeddings": 64,
    }))
    (model / "tokenizer.json").write_text("{}")
    shapes = {"model.embed_tokens.weight": [vocabulary, hidden], "model.norm.weight": [hidden]}
    layer = "model.layers.0."
    shapes |= {layer + f"self_attn.{name}_proj.weight": [hidden, hidden] for name in "qkvo"}
    shapes |= {layer + f"mlp.{name}_proj.weight": [inner, hidden] for name in ("gate", "up")}
    shapes |= {layer + "mlp.down_proj.weight": [hidden, inner], layer + "input_layernorm.weight": [hidden],
               layer + "post_attention_layernorm.weight": [hidden]}
    weights = {name: (shape, numbers(math.prod(shape), i)) for i, (name, shape) in enumerate(shapes.items())}
    write_safetensors(model / "model.safetensors", weights)
    module = "base_model.model.model.layers.0.self_attn.q_proj."
    update = {module + "lora_A.weight": ([1, hidden], numbers(hidden, 50)),
              module + "lora_B.weight": ([hidden, 1], numbers(hidden, 51))}
    write_safetensors(adapter / "adapter_model.safetensors", update)
    (adapter / "adapter_config.json").write_text(json.dumps({
        "peft_type": "LORA", "r": 1, "lora_alpha": 2, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "somebody/tiny",
    }))
    return model, adapter, weights, update


def bfloat16(value):
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


class TestAdapters:
    def test_gguf(self, tmp_path):
        file = tmp_path / "a.gguf"
        assert done("gguf", "--model", MODEL, PLAIN, file).stdout.decode().strip() == str(file)
        data = file.read_bytes()
        assert data[:4] == b"GGUF" and struct.unpack_from("<I", data, 4) == (3,)
        assert b"adapter.lora.alpha" in data and b"blk.0.attn_q.weight.lora_a" in data
        again = run("export", "gguf", "--model", MODEL, PLAIN, file)
        assert again.returncode == 1 and "exists already" in one_line_error(again)
        assert file.read_bytes() == data and list(tmp_path.iterdir()) == [file]

    def test_mlx(self, tmp_path):
        done("mlx", "--model", MODEL, DORA, tmp_path / "mlx")
        config = json.loads((tmp_path / "mlx/adapter_config.json").read_text())
        assert config["fine_tune_type"] == "dora" and config["lora_parameters"]["rank"] == 4
        tensors = read_safetensors(tmp_path / "mlx/adapters.safetensors")
        name = next(name for name in tensors if name.endswith(".lora_a"))
        assert tensors[name][1] == [576, 4] and tensors[name.replace("lora_a", "lora_b")][1][0] == 4

    def test_peft(self, tmp_path):
        done("peft", PLAIN, tmp_path / "peft")
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            assert (tmp_path / "peft" / name).read_bytes() == (PLAIN / name).read_bytes()

    def test_of_a_data_folder(self, tmp_path, data_dir):
        state = state_folder(data_dir)
        loaded = run("adapters", "load", "--model", MODEL, "--compute", "f32", "--data-dir", state, "org/p", PLAIN)
        assert loaded.returncode == 0, loaded.stderr
        for name in ("org/p", "org/p@1"):
            done("peft", "--data-dir", state, name, tmp_path / name)
            file = "adapter_model.safetensors"
            assert (tmp_path / name / file).read_bytes() == (PLAIN / file).read_bytes()
        for name in ("org/q", "org/p@2"):
            assert "is neither a folder nor an adapter" in one_line_error(
                run("export", "peft", "--data-dir", state, name, tmp_path / "x"))

    def test_the_base_needs_no_weights(self, tiny, tmp_path):
        model, adapter, *_ = tiny
        bare = tmp_path / "bare"
        bare.mkdir()
        shutil.copy(model / "config.json", bare)
        for form, name in (("gguf", "a.gguf"), ("mlx", "mlx")):
            done(form, "--model", bare, adapter, tmp_path / name)
            done(form, "--model", model, adapter, tmp_path / f"whole-{name}")
        assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "whole-a.gguf").read_bytes()

    def test_other_forms_are_read(self, tiny, tmp_path):
        """An adapter in GGUF or MLX-LM's form is exported, and generated with, as the PEFT folder that it was."""
        model, adapter, *_ = tiny
        done("gguf", "--model", model, adapter, tmp_path / "a.gguf")
        done("mlx", "--model", model, tmp_path / "a.gguf", tmp_path / "mlx")
        done("peft", "--model", model, tmp_path / "mlx", tmp_path / "peft")
        tensors = [read_safetensors(folder / "adapter_model.safetensors") for folder in (adapter, tmp_path / "peft")]
        assert tensors[0] == tensors[1]
        process = run("export", "peft", tmp_path / "a.gguf", tmp_path / "x")
        assert process.returncode == 1 and "name its base with --model" in one_line_error(process)
        for source in (adapter, tmp_path / "a.gguf", tmp_path / "mlx"):
            done("merged", "--model", model, source, tmp_path / f"merged-{source.stem}")
        merged = [(tmp_path / f"merged-{name}/model.safetensors").read_bytes() for name in ("adapter", "a", "mlx")]
        assert merged[0] == merged[1] == merged[2]

    def test_generating_with_other_forms(self, tmp_path, data_dir):
        done("gguf", "--model", MODEL, PLAIN, tmp_path / "a.gguf")
        texts = []
        for adapter in (PLAIN, tmp_path / "a.gguf"):
            process = run("generate", "--model", MODEL, "--data-dir", state_folder(data_dir), "--adapter", adapter,
                          "--prompt", "Once", "--max-tokens", "8", "--temperature", "0", "--compute", "f32")
            assert process.returncode == 0, process.stderr.decode()
            texts.append(process.stdout)
        assert texts[0] == texts[1]

    def test_a_difference_needs_no_base(self, tmp_path):
        """What an adapter beside its initial one adds to the unchanged base has twice the rank."""
        adapter = ROOT / "Tests/ModelTests/Fixtures/adapter-forms/pissa"
        done("peft", adapter, tmp_path / "peft")
        rank = json.loads((adapter / "adapter_config.json").read_text())["r"]
        assert json.loads((tmp_path / "peft/adapter_config.json").read_text())["r"] == 2 * rank
        inspected = run("adapters", "inspect", adapter, "--json")
        assert inspected.returncode == 0, inspected.stdout.decode()
        assert json.loads(inspected.stdout)["rank"] == 2 * rank

    def test_notes_of_a_form(self, tmp_path, data_dir):
        """What is not read of an adapter is told by each command that reads it."""
        adapter, rows, state = tmp_path / "mlx", tmp_path / "rows.jsonl", state_folder(data_dir)
        done("mlx", "--model", MODEL, PLAIN, adapter)
        config = json.loads((adapter / "adapter_config.json").read_text())
        config["lora_parameters"]["alpha"] = 16
        (adapter / "adapter_config.json").write_text(json.dumps(config))
        rows.write_text('{"prompt": "a", "completion": "b"}\n' * 4)
        for command in (
            ("export", "peft", "--model", MODEL, adapter, tmp_path / "peft"),
            ("generate", "--model", MODEL, "--data-dir", state, "--adapter", adapter, "--prompt", "Once", "--max-tokens", "1"),
            ("train", "--model", MODEL, "--data-dir", state, "--data", rows, "--output", tmp_path / "out", "--init-adapter",
             adapter, "--max-steps", "1"),
        ):
            process = run(*command)
            assert process.returncode == 0, process.stderr.decode()
            assert process.stderr.decode().count("mlx: lora_parameters.alpha is not used") == 1

    @pytest.mark.parametrize("arguments, message", [
        (("gguf", "--model", MODEL, DORA), "use_dora: GGUF's adapters have no magnitudes"),
        (("gguf", "--model", MODEL, "nothing", "--data-dir", "/nonexistent"), "is no folder"),
        (("mlx", "--model", PLAIN, PLAIN), "is a LoRA adapter, not a model"),
        (("merged", "--model", MODEL, PLAIN), "is no folder; give the Hugging Face folder"),
        (("merged", "--model", FIXTURES / "hf", "--like", MODEL, PLAIN), "--like is for a target NAME.gguf"),
        (("bitsandbytes", "--model", MODEL), "is no folder; give the Hugging Face folder"),
        (("extracted", "--model", MODEL, "--tuned", MODEL), "no projection differs"),
    ])
    def test_refusals(self, tmp_path, arguments, message):
        process = run("export", *arguments, tmp_path / "target")
        assert process.returncode in (1, 2) and message in process.stderr.decode()
        assert process.returncode == 2 or process.stderr.decode().splitlines()[-1].startswith("graft: ")
        assert list(tmp_path.iterdir()) == []


class TestModels:
    def test_merged(self, tiny, tmp_path):
        model, adapter, weights, update = tiny
        process = done("merged", "--model", model, adapter, tmp_path / "merged")
        assert f"into {model}; its configuration names somebody/tiny" in process.stderr.decode()
        config = json.loads((tmp_path / "merged/config.json").read_text())
        assert config["torch_dtype"] == "bfloat16" and config["rms_norm_eps"] == 1e-5
        assert (tmp_path / "merged/tokenizer.json").read_text() == "{}"
        found = read_safetensors(tmp_path / "merged/model.safetensors")
        assert set(found) == set(weights)
        a, b = (values for _, values in update.values())
        for name, (shape, values) in weights.items():
            if name.endswith("q_proj.weight"):
                values = [w + 2 * b[i // 64] * a[i % 64] for i, w in enumerate(values)]
            assert found[name][:2] == ("BF16", shape)
            assert list(struct.unpack(f"<{len(values)}H", found[name][2])) == [bfloat16(value) for value in values]

    def test_merged_into_another_base(self, tiny, tmp_path):
        """What a data folder says of the base is compared, where it has the base."""
        model, adapter, weights, _ = tiny
        state = tmp_path / "data"
        other = tmp_path / "other"
        shutil.copytree(model, other)
        shape, values = weights["model.norm.weight"]
        write_safetensors(other / "model.safetensors", weights | {"model.norm.weight": (shape, [2 * v for v in values])})

        def load(base, name):
            process = run("adapters", "load", "--model", base, "--data-dir", state, name, adapter)
            assert process.returncode == 0, process.stderr.decode()

        load(model, "a")
        process = done("merged", "--model", model, "--data-dir", state, "a", tmp_path / "same")
        assert "registered" not in process.stderr.decode()
        process = done("merged", "--model", other, "--data-dir", state, "a", tmp_path / "unknown")
        assert "whether it was registered for these weights is not known" in process.stderr.decode()
        load(other, "b")
        process = run("export", "merged", "--model", other, "--data-dir", state, "a", tmp_path / "x")
        assert process.returncode == 1 and "was registered for another base" in one_line_error(process)
        assert not (tmp_path / "x").exists()
        process = done("merged", "--model", other, "--data-dir", state, "--any-base", "a", tmp_path / "x")
        assert "it was registered for another base" in process.stderr.decode()
        process = done("merged", "--model", other, adapter, tmp_path / "folder")
        assert "a folder does not say which weights it is for" in process.stderr.decode()

    def test_merged_gguf(self, tmp_path):
        file = tmp_path / "merged.gguf"
        done("merged", "--model", MODEL, "--type", "q8_0", PLAIN, file)
        process = run("generate", "--model", file, "--data-dir", tmp_path / "data", "--prompt", "Once", "--max-tokens", "2",
                      "--temperature", "0")
        assert process.returncode == 0 and process.stdout, process.stderr.decode()

    def test_shards(self, tiny, tmp_path):
        model, adapter, weights, _ = tiny
        done("merged", "--model", model, "--shard-size", "20KiB", adapter, tmp_path / "merged")
        index = json.loads((tmp_path / "merged/model.safetensors.index.json").read_text())
        assert set(index["weight_map"]) == set(weights)
        files = {file.name for file in (tmp_path / "merged").glob("*.safetensors")}
        assert set(index["weight_map"].values()) == files and len(files) > 2
        assert index["metadata"]["total_size"] == sum(
            len(data) for file in files for _, _, data in read_safetensors(tmp_path / "merged" / file).values())

    @pytest.mark.parametrize("flags", [(), ("--double-quant",)])
    def test_bitsandbytes(self, tiny, tmp_path, flags):
        model, _, weights, _ = tiny
        done("bitsandbytes", "--model", model, *flags, tmp_path / "nf4")
        config = json.loads((tmp_path / "nf4/config.json").read_text())["quantization_config"]
        assert config["bnb_4bit_quant_type"] == "nf4" and config["bnb_4bit_use_double_quant"] == bool(flags)
        found = read_safetensors(tmp_path / "nf4/model.safetensors")
        name = "model.layers.0.self_attn.q_proj.weight"
        assert found[name][:2] == ("U8", [64 * 64 // 2, 1])
        state = json.loads(found[name + ".quant_state.bitsandbytes__nf4"][2])
        assert state["shape"] == [64, 64] and state["blocksize"] == 64 and state["dtype"] == "float32"
        values = weights[name][1]
        largest = [max(map(abs, values[i:i + 64])) for i in range(0, len(values), 64)]
        if flags:
            assert found[name + ".absmax"][:2] == ("U8", [64]) and state["nested_blocksize"] == 256
            assert abs(state["nested_offset"] - sum(largest) / 64) < 1e-6
        else:
            assert list(struct.unpack("<64f", found[name + ".absmax"][2])) == largest
        norm = "model.norm.weight"
        assert found[norm] == read_safetensors(model / "model.safetensors")[norm]

    def test_extracted(self, tiny, tmp_path):
        model, adapter, *_ = tiny
        done("merged", "--model", model, adapter, tmp_path / "tuned")
        process = done("extracted", "--model", model, "--tuned", tmp_path / "tuned", "--rank", "2", "--json",
                       tmp_path / "found")
        parts = {part["name"]: part for part in json.loads(process.stdout)}
        # Rounding to bf16 changes no other weight: theirs have eight bits at most.
        assert list(parts) == ["model.layers.0.self_attn.q_proj.weight"]
        assert parts["model.layers.0.self_attn.q_proj.weight"]["kept"] > 0.99
        config = json.loads((tmp_path / "found/adapter_config.json").read_text())
        assert config["r"] == 2 and config["target_modules"] == ["q_proj"]


class TestOverHTTP:
    def test_formats(self, server, tmp_path):
        content = "/v1/adapters/r4-pattern/content"
        default = server.http.get(content)
        assert server.http.get(content + "?format=peft").content == default.content
        gguf = server.http.get(content + "?format=gguf")
        assert gguf.status_code == 200 and gguf.headers["content-type"] == "application/octet-stream"
        assert gguf.headers["content-disposition"] == 'attachment; filename="r4-pattern@1.gguf"'
        assert int(gguf.headers["content-length"]) == len(gguf.content)
        done("gguf", "--model", MODEL, PLAIN, tmp_path / "r4-pattern")
        assert gguf.content == (tmp_path / "r4-pattern").read_bytes()
        mlx = server.http.get(content + "?format=mlx&version=1")
        with tarfile.open(fileobj=io.BytesIO(mlx.content)) as archive:
            names = ["adapter_config.json", "adapters.safetensors"]
            assert archive.getnames() == [f"r4-pattern/{name}" for name in names]
            done("mlx", "--model", MODEL, PLAIN, tmp_path / "mlx")
            for name in names:
                assert archive.extractfile(f"r4-pattern/{name}").read() == (tmp_path / "mlx" / name).read_bytes()
        assert not list((server.state / "adapters").glob(".new-*"))

    def test_refusals(self, server):
        content = "/v1/adapters/r4-dora/content"
        error = check(server.http.get(content + "?format=gguf"), 400, param="format")
        assert "use_dora" in error["message"]
        for query in ("format=ggml", "format=gguf&format=mlx", "format="):
            check(server.http.get(content + "?" + query), 400, param="format")
        check(server.http.get("/v1/adapters/r4-dora?format=gguf"), 400, param="format")
