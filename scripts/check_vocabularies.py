#!/usr/bin/env python3
"""Compares Graft's tokenizers with the libraries that the vocabularies belong to, on published vocabularies and random texts.

The vocabularies come out of packages: llama.cpp's `ggml-vocab-*.gguf` with the ids that it expects (the source package of
llama-cpp-python), Mistral's tokenizer.model and tekken.json files (mistral_common), and ones that sentencepiece and
`tokenizers` train here. Usage: check_vocabularies.py [--texts N] [--seed N] -- COMMAND, where the command runs the test
VocabularyComparisonTests.
"""

import argparse
import base64
import io
import json
import os
import pathlib
import random
import subprocess
import sys
import tarfile
import tempfile

import gguf
import mistral_common
import sentencepiece
import tiktoken
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

SDIST = "llama_cpp_python==0.3.36"
ROOT = pathlib.Path(__file__).resolve().parents[1]
WORK = ROOT / ".build-vocabularies"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
REFUSED = {"bert-bge": "'bert' is not supported: WordPiece belongs to encoders"}


def llama_cpp_models():
    """llama.cpp's folder of vocabularies, out of the source package."""
    folder = WORK / "models"
    if not folder.exists():
        # To learn the package's name, pip asks its build system, which the environment of this script has.
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "llama-cpp-python",
             "--no-build-isolation", "-d", WORK, SDIST], check=True,
            env=os.environ | {"PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"})
        archive = next(WORK.glob("llama_cpp_python-*.tar.gz"))
        with tempfile.TemporaryDirectory(dir=WORK) as unpacked, tarfile.open(archive) as tar:
            tar.extractall(unpacked, [m for m in tar.getmembers() if "/models/ggml-vocab-" in m.name], filter="data")
            next(pathlib.Path(unpacked).glob("*/vendor/llama.cpp/models")).rename(folder)
        archive.unlink()
    return folder


RANGES = [
    (0x61, 0x7A), (0x20, 0x20), (0x20, 0x7E), (0x01, 0x20), (0x80, 0x6FF), (0x4E00, 0x9FFF), (0x1F600, 0x1F64F), (0x30, 0x39),
    (0x2000, 0x2030), (0x2581, 0x2581), (0x300, 0x33F), (0xAC00, 0xAFFF), (0xFB00, 0xFFEF), (0x900, 0x97F), (0xE00, 0xE5B),
    (0x1100, 0x11FF), (0x2150, 0x218B), (0xA0, 0xFF), (0x3000, 0x30FF),
]


def random_text(rng, words):
    parts = []
    for _ in range(rng.randint(0, 25)):
        if rng.random() < 0.4:
            parts.append(rng.choice(words) + rng.choice(["", " ", " ", "  ", "\n", ", ", "'s ", "123"]))
        else:
            low, high = rng.choice(RANGES)
            parts.append("".join(chr(rng.randint(low, high)) for _ in range(rng.choice([1, 1, 2, 5]))))
    return "".join(parts)


class Cases:
    def __init__(self, path, rng, count):
        self.output = open(path, "w")
        words = (ROOT / "LICENSE").read_text().split() + ["naïve", "Übergröße", "日本語", "привет", "<s>", "</s>", "<tool>", "don't"]
        self.texts = [random_text(rng, words) for _ in range(count)] + [
            (ROOT / "LICENSE").read_text()[:3000], "a" * 300, " " * 300, "\n" * 30, "1234567" * 20]
        # What a text begins with counts where only its first character gets a prefix.
        beginnings = ["the", "eat", "\x01a", "½.", "e\u0301", "\u0301", "…", "\u3000\u3000x", " .the"]
        self.texts += [beginning + " and more" for beginning in beginnings]

    def add(self, name, path, encode, decode=None, texts=None, special=False):
        texts = self.texts if texts is None else texts
        ids = [encode(text) for text in texts]
        decoded = [decode(i) if decode else None for i in ids]
        self.write(name=name, path=str(path), special=special, texts=texts, ids=ids, decoded=decoded)

    def refuse(self, name, path, reason):
        self.write(name=name, path=str(path), special=False, refused=reason, texts=[], ids=[], decoded=[])

    def write(self, **values):
        self.output.write(json.dumps(values) + "\n")


def llama_cpp(cases):
    for path in sorted(llama_cpp_models().glob("*.gguf")):
        name = path.stem.removeprefix("ggml-vocab-")
        if name in REFUSED:
            cases.refuse(f"llama.cpp {name}", path, REFUSED[name])
            continue
        if not path.with_suffix(".gguf.inp").exists():
            # No expected ids: it must load, and take texts.
            cases.add(f"llama.cpp {name}", path, lambda text: [], texts=[])
            continue
        texts = path.with_suffix(".gguf.inp").open(encoding="utf-8", newline="").read().split("\n__ggml_vocab_test__\n")
        lines = path.with_suffix(".gguf.out").read_text().split("\n")
        expected = {text: [int(i) for i in line.split()] for text, line in zip(texts, lines)}
        cases.add(f"llama.cpp {name}", path, expected.get, texts=list(expected))


def folder(name, file, data):
    path = WORK / "made" / name
    path.mkdir(parents=True, exist_ok=True)
    (path / file).write_bytes(data)
    return path


def sentence_piece(cases, name, data):
    path = folder(name, "tokenizer.model", data)
    processor = sentencepiece.SentencePieceProcessor(model_proto=data)
    unknown = processor.unk_id()

    def decode(ids):
        # sentencepiece writes unknown characters as " ⁇ ".
        return None if unknown in ids else processor.decode(ids)

    cases.add(f"sentencepiece {name}", path, processor.encode, decode)
    return processor


def mistral(cases):
    data = pathlib.Path(mistral_common.__file__).parent / "data"
    for path in sorted(data.glob("*.model*")):
        sentence_piece(cases, path.name, path.read_bytes())
    for path in sorted(data.glob("tekken*.json")):
        tokenizer = Tekkenizer.from_file(path)
        made = folder(path.stem, "tekken.json", path.read_bytes())
        cases.add(f"mistral_common {path.stem}", made, lambda t: tokenizer.encode(t, bos=False, eos=False), tokenizer.decode)


def corpus():
    text = (ROOT / "LICENSE").read_text()
    more = ["Zwölf Boxkämpfer jagen Viktor.", "В чащах юга жил бы цитрус?", "日本語の文章と中文的句子。", "ﬁne ½ Ⅷ café cafe\u0301"]
    return text.split("\n") + more * 30


def trained(cases):
    for kind in ["unigram", "bpe"]:
        for rule in ["nmt_nfkc", "nfkc", "nmt_nfkc_cf", "identity"]:
            for number, options in enumerate([
                dict(byte_fallback=True, user_defined_symbols=["<tool>", "the", "ab"]),
                dict(byte_fallback=False, add_dummy_prefix=False, remove_extra_whitespaces=False),
                dict(byte_fallback=True, remove_extra_whitespaces=False, user_defined_symbols=["▁▁", "\t"]),
                dict(byte_fallback=False, add_dummy_prefix=False, split_by_whitespace=False, character_coverage=0.98),
            ]):
                model = io.BytesIO()
                sentencepiece.SentencePieceTrainer.train(
                    sentence_iterator=iter(corpus()), model_writer=model, model_type=kind, vocab_size=900,
                    normalization_rule_name=rule, minloglevel=3, hard_vocab_limit=False, num_threads=1,
                    **({"character_coverage": 0.99} | options))
                sentence_piece(cases, f"{kind}-{rule}-{number}", model.getvalue())


def strings(reader, key):
    field = reader.fields[key]
    return [bytes(field.parts[i]).decode() for i in field.data]


def numbers(reader, key):
    field = reader.fields[key]
    return [field.parts[i][0].item() for i in field.data]


def large(cases):
    """The 250,000 tokens of XLM-R's vocabulary as sentencepiece's and `tokenizers`' unigram model and as GGUF, for which
    llama.cpp expects no ids; and Llama 3's 128,000 as tiktoken's lines."""
    path = llama_cpp_models() / "ggml-vocab-nomic-bert-moe.gguf"
    reader = gguf.GGUFReader(path)
    pieces, scores, types = (strings(reader, "tokenizer.ggml.tokens"), numbers(reader, "tokenizer.ggml.scores"),
                             numbers(reader, "tokenizer.ggml.token_type"))
    charsmap = bytes(value % 256 for value in numbers(reader, "tokenizer.ggml.precompiled_charsmap"))
    proto = sentencepiece_model_pb2.ModelProto()
    seen = set()
    for id, (text, score, kind) in enumerate(zip(pieces, scores, types)):
        text = text if text and text not in seen else f"<unused{id}>"
        seen.add(text)
        proto.pieces.add(piece=text, score=score, type=2 if text == "<unk>" else 3 if kind == 2 or kind > 3 else kind)
    proto.trainer_spec.model_type = 1
    proto.normalizer_spec.precompiled_charsmap = charsmap
    processor = sentence_piece(cases, "xlm-r", proto.SerializeToString())
    # llama.cpp keeps sums of scores as doubles, as `tokenizers` does, and sentencepiece as floats: nearly equal ones change places.
    control = sentencepiece_model_pb2.ModelProto.SentencePiece.CONTROL
    doubles = Tokenizer(models.Unigram(
        [(f"\U000F0000{id}" if piece.type == control else piece.piece, piece.score) for id, piece in enumerate(proto.pieces)],
        processor.unk_id(), False))
    cases.add("sentencepiece xlm-r, GGUF", path, lambda text: doubles.encode(processor.normalize(text)).ids)

    unknown = pieces.index("<unk>")
    tokenizer = Tokenizer(models.Unigram(list(zip(pieces, scores)), unknown, False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Precompiled(charsmap), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")])
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    hugging_face(cases, "xlm-r", tokenizer)

    reader = gguf.GGUFReader(llama_cpp_models() / "ggml-vocab-llama-bpe.gguf")
    letters = {letter: byte for byte, letter in enumerate(byte_letters())}
    ranks = [bytes(letters[letter] for letter in token) for token in strings(reader, "tokenizer.ggml.tokens")[:128000]]
    lines = b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(ranks))
    encoding = tiktoken.Encoding("llama3", pat_str=LLAMA3, mergeable_ranks={t: r for r, t in enumerate(ranks)}, special_tokens={})
    cases.add("tiktoken llama3", folder("llama3", "tokenizer.model", lines), encoding.encode_ordinary, encoding.decode)


def byte_letters():
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) if byte in printable else chr(0x100 + rest.index(byte)) for byte in range(256)]


def hugging_face(cases, name, tokenizer):
    path = folder(f"hf-{name}", "tokenizer.json", tokenizer.to_str().encode())
    tokenizer.encode_special_tokens = True
    cases.add(
        f"tokenizers {name}", path, lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
        lambda ids: tokenizer.decode(ids, skip_special_tokens=False))
    tokenizer.encode_special_tokens = False
    cases.add(
        f"tokenizers {name} special", path, lambda text: tokenizer.encode(text, add_special_tokens=False).ids, special=True)


def pipelines(cases, rng, charsmap):
    """`tokenizers` with parts drawn at random."""
    normal = [
        normalizers.NFC(), normalizers.NFD(), normalizers.NFKC(), normalizers.NFKD(), normalizers.Lowercase(), normalizers.Nmt(),
        normalizers.StripAccents(), normalizers.Strip(True, True), normalizers.Strip(False, True), normalizers.Prepend("▁"),
        normalizers.Replace("the", "THE"), normalizers.Replace(Regex(r"\s{2,}"), " "), normalizers.Replace(Regex("a|e+"), "<>"),
        normalizers.Precompiled(charsmap),
    ]
    split = [
        pre_tokenizers.Whitespace(), pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Digits(True), pre_tokenizers.Digits(False),
        pre_tokenizers.Punctuation("isolated"), pre_tokenizers.Punctuation("merged_with_previous"),
        pre_tokenizers.CharDelimiterSplit("e"), pre_tokenizers.Split(Regex(r"\s+|[aeiou]"), "merged_with_next"),
        pre_tokenizers.Split("the", "removed"), pre_tokenizers.Split(Regex(r"\p{L}+"), "contiguous", invert=True),
        pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.Metaspace(prepend_scheme="always"),
        pre_tokenizers.Metaspace(prepend_scheme="first", split=False), pre_tokenizers.Metaspace(prepend_scheme="never"),
    ]
    for number in range(40):
        kind = ["unigram", "bpe", "bytes"][number % 3]
        if kind == "unigram":
            model, trainer = models.Unigram(), trainers.UnigramTrainer(
                vocab_size=500, unk_token="<unk>", special_tokens=["<unk>", "<s>"], show_progress=False)
        elif kind == "bpe":
            model = models.BPE(unk_token="<unk>", fuse_unk=rng.random() < 0.5)
            trainer = trainers.BpeTrainer(
                vocab_size=500, special_tokens=["<unk>", "<s>"], limit_alphabet=60, show_progress=False)
        else:
            model = models.BPE(ignore_merges=rng.random() < 0.5)
            trainer = trainers.BpeTrainer(
                vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
        tokenizer = Tokenizer(model)
        tokenizer.normalizer = normalizers.Sequence(rng.sample(normal, rng.randint(0, 3)))
        steps = rng.sample(split, rng.randint(0, 2))
        if kind == "bytes":
            steps = steps[:1] + [pre_tokenizers.ByteLevel(add_prefix_space=rng.random() < 0.3, use_regex=rng.random() < 0.5)]
            tokenizer.decoder = decoders.ByteLevel()
        else:
            tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
        tokenizer.train_from_iterator(corpus(), trainer)
        hugging_face(cases, f"pipeline {number} {kind}", tokenizer)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    WORK.mkdir(exist_ok=True)
    path = WORK / "cases.jsonl"
    cases = Cases(path, rng, options.texts)
    llama_cpp(cases)
    mistral(cases)
    trained(cases)
    large(cases)
    charsmap = sentencepiece_model_pb2.ModelProto.FromString(
        (WORK / "made/unigram-nmt_nfkc-0/tokenizer.model").read_bytes()).normalizer_spec.precompiled_charsmap
    pipelines(cases, rng, charsmap)
    cases.output.close()
    result = subprocess.run(options.command, env=os.environ | {"VOCABULARY_CASES": str(path)}, stdout=subprocess.PIPE, text=True)
    report = pathlib.Path(f"{path}.report")
    print(report.read_text() if report.exists() else result.stdout[-20_000:])
    if result.returncode:
        print("\n".join(line[:2000] for line in result.stdout.splitlines() if "recorded an issue" in line))
    sys.exit(result.returncode)


main()
