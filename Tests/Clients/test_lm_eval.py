"""lm-eval's `local-completions`: its scores are those of transformers on the same NF4 weights."""

import json

import pytest

import evaluation_tasks


@pytest.fixture(scope="module")
def results(url, tmp_path_factory):
    # Without a tokenizer of its own lm-eval asks the server for the tokens.
    return evaluation_tasks.evaluate(
        "local-completions", model_args={"model": "base", "base_url": url + "/completions", "num_concurrent": 4, "max_retries": 1})


@pytest.mark.parametrize("task", ["facts", "prose"])
def test_scores(results, task):
    want = json.loads(evaluation_tasks.REFERENCE.read_text())[task]
    assert results[task]["likelihoods"] == pytest.approx(want["likelihoods"], rel=5e-3)
    assert results[task]["metrics"] == pytest.approx(want["metrics"], rel=5e-3)
