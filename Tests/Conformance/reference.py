"""Results of transformers, PEFT, bitsandbytes and tokenizers on the same model, and how a token appears on the wire."""

import json
from pathlib import Path

from graft_server import FIXTURES

TOLERANCE = 1e-3
# Nearer than this the two best tokens may change places, and what follows is another text.
TIE = 2e-3


def _byte_alphabet() -> dict[str, int]:
    """The characters that stand for bytes in a byte-level vocabulary, as GPT-2 introduced them."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + index): byte for index, byte in enumerate(others)}


class Reference:
    def __init__(self, hf_dir: Path):
        self.prompts = json.loads((FIXTURES / "logits.json").read_text())["prompts"]
        self.tokenization = json.loads((FIXTURES / "tokenization.json").read_text())
        tokenizer = json.loads((hf_dir / "tokenizer.json").read_text())
        alphabet = _byte_alphabet()
        self._bytes = {
            id: bytes(alphabet[character] for character in token) for token, id in tokenizer["model"]["vocab"].items()
        }
        self._bytes |= {token["id"]: token["content"].encode() for token in tokenizer["added_tokens"]}

    def bytes_of(self, ids: list[int]) -> bytes:
        return b"".join(self._bytes[id] for id in ids)

    def name(self, id: int) -> str:
        """The token in completions' logprobs: its text, or its bytes where they are not UTF-8 on their own."""
        try:
            return self._bytes[id].decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in self._bytes[id])

    def names(self, ids: list[int]) -> list[str]:
        return [self.name(id) for id in ids]
