"""The programs of examples/ that need nothing beyond this suite's packages; `make check-clients` runs the others."""

import json
import os
import re
import subprocess
import sys

import jsonschema
import pytest

from graft_server import PATIENCE, ROOT, Server

EXAMPLES = ROOT / "examples"
ORDERS = EXAMPLES / "orders"
sys.path.insert(0, str(ORDERS))
import make_data  # noqa: E402
import orders  # noqa: E402


@pytest.fixture(scope="module")
def tour(data_dir):
    """The server that `make serve ADAPTERS=examples/adapters` starts."""
    with Server("--adapters", EXAMPLES / "adapters", data_dir=data_dir) as server:
        yield server


@pytest.fixture
def run_example(tour):
    def run(path, *command, arguments=()):
        environment = os.environ | {"GRAFT_URL": tour.url + "/v1"}
        done = subprocess.run(
            [*(command or [sys.executable]), str(EXAMPLES / path), *map(str, arguments)], env=environment,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


class TestClients:
    def test_openai_chat(self, run_example):
        base, pirate, mix = run_example("clients/openai_chat.py").splitlines()
        assert "Paris" in base and pirate.startswith("pirate: Arr, matey!") and mix.startswith("pirate:0.5,shout:0.33: ")

    def test_tool_loop(self, run_example, tmp_path):
        for name, lines in (("a.txt", 3), ("b.txt", 5)):
            (tmp_path / name).write_text("line\n" * lines)
        real = {"count_lines": {"a.txt": 3, "b.txt": 5}, "file_size": {"a.txt": 15, "b.txt": 25}}
        *calls, answer = run_example("clients/tool_loop.py", arguments=[tmp_path]).splitlines()
        found = [re.fullmatch(r'(\w+)\({"file": ?"([ab]\.txt)"}\) = (\d+)', call) for call in calls]
        assert found and all(real[call[1]][call[2]] == int(call[3]) for call in found if call)
        assert found[0] and answer.strip()

    def test_curl(self, run_example):
        models, _, stream = run_example("clients/chat.sh", "bash").partition("data: ")
        assert {"pirate", "shout"} <= {model["id"] for model in json.loads(models)["data"]}
        events = [json.loads(line) for line in stream.replace("data: ", "").splitlines() if line.startswith("{")]
        assert "".join(event["choices"][0]["delta"].get("content") or "" for event in events).startswith("Arr, matey!")


def test_the_readmes_name_every_example():
    for folder in (EXAMPLES, EXAMPLES / "clients"):
        text = (folder / "README.md").read_text()
        for link in re.findall(r"\]\(([^)#]+)", text):
            assert "://" in link or (folder / link).exists(), link
        for entry in folder.iterdir():
            assert entry.name in ("README.md", "__pycache__") or f"[{entry.name}]({entry.name}" in text or f"`{entry.name}`" in text, entry.name


class TestOrders:
    """The case of examples/orders: its data, its scoring, and a run that is too short to learn."""

    def test_the_data_is_the_generators(self, tmp_path):
        make_data.main(tmp_path)
        for split in make_data.SIZES:
            assert (tmp_path / f"{split}.jsonl").read_bytes() == (ORDERS / f"data/{split}.jsonl").read_bytes()

    def test_splits_share_no_phrases(self):
        splits = list(make_data.SIZES)
        for index, split in enumerate(splits):
            for other in splits[index + 1:]:
                for delivery in (True, False):
                    assert not set(make_data.PHRASES[split][delivery]) & set(make_data.PHRASES[other][delivery])
                assert not set(make_data.NAMES[split]) & set(make_data.NAMES[other])
                assert not set(make_data.CORRECTIONS[split]) & set(make_data.CORRECTIONS[other])
        rows = {split: [json.loads(line) for line in (ORDERS / f"data/{split}.jsonl").read_text().splitlines()] for split in splits}
        messages = [row["messages"][1]["content"] for split in splits for row in rows[split]]
        assert len(set(messages)) == len(messages) == sum(make_data.SIZES.values())

    def test_every_order_fits_the_schema_and_its_message(self):
        numbers = {word: number for number, words in make_data.NUMBERS.items() for word in words}
        for split in make_data.SIZES:
            for line in (ORDERS / f"data/{split}.jsonl").read_text().splitlines():
                _, user, assistant = json.loads(line)["messages"]
                order = json.loads(assistant["content"])
                jsonschema.validate(order, orders.SCHEMA)
                text = user["content"].lower()
                assert order["customer"].lower() in text and order["day"] in text
                for item in order["items"]:
                    noun = item["product"] if item["quantity"] == 1 else make_data.PLURALS[item["product"]]
                    said = [word for word, number in numbers.items() if number == item["quantity"]]
                    assert any(f"{word} {form}" in text for word in said for form in (noun, item["product"])), text

    def test_the_scores(self):
        one = {"customer": "Ann", "day": "friday", "delivery": True, "items": [{"product": "pretzel", "quantity": 2}]}
        two = one | {"items": [{"product": "pretzel", "quantity": 2}, {"product": "baguette", "quantity": 1}]}

        def judge(answer, order):
            return orders.judge([answer], [order])

        assert judge(json.dumps(one), one) == {"json": 1, "exact": 1, "f1": 1}
        reordered = {name: two[name] for name in reversed(two)} | {"items": two["items"][::-1]}
        assert judge(f"```json\n{json.dumps(reordered)}\n```", two)["exact"] == 1
        assert judge("Ann wants pretzels.", one) == {"json": 0, "exact": 0, "f1": 0}
        # Four statements of five, and none that is wrong: precision 1, recall 4/5.
        assert judge(json.dumps(one), two)["f1"] == pytest.approx(2 * 0.8 / 1.8)
        # A quantity that is wrong, true for 1, an item twice, and a member too many are no exact answers.
        for wrong in ({"items": [{"product": "pretzel", "quantity": 3}]}, {"delivery": 1}, {"items": one["items"] * 2}, {"note": ""}):
            score = judge(json.dumps(one | wrong), one)
            assert score["exact"] == 0 and 0 < score["f1"] < 1
        for odd in ("[1]", "7", '{"items": 3}', '{"items": null}', '{"items": [[]], "day": {}}', "", "{"):
            assert judge(odd, one)["exact"] == 0
        assert orders.judge([json.dumps(one), "{"], [one, one]) == {
            "json": 0.5, "exact": 0.5, "f1": pytest.approx(2 * 4 / (4 + 8))}

    def test_a_short_run(self, run_example, tmp_path):
        """It runs, and says of the base what the same requests say here."""
        output = tmp_path / "figures.json"
        shown = run_example("orders/run.py", arguments=["--steps", 1, "--rows", 3, "--output", output])
        figures = json.loads(output.read_text())
        assert [line["asked"] for line in figures["table"]] == re.findall(r"^\| ((?:base|adapter).*?) \|", shown, re.M)
        assert len(figures["table"]) == 6 and figures["traffic"]["requests"] > 0 and figures["trained_tokens"] > 0
        for line in figures["table"]:
            if "schema" in line["asked"]:
                assert line["json"] == 1 and line["f1"] > 0
        # A prompt without instructions is shorter than one with, and that than one with examples.
        lengths = {line["asked"]: line["prompt_tokens"] for line in figures["table"]}
        assert lengths["adapter"] < lengths["base"] < lengths["base, 4 examples"]
