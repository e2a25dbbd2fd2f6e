"""The tasks for lm-eval, and how they are run. scripts/fixtures/evaluation_reference.py runs them with transformers."""

from pathlib import Path

from lm_eval import simple_evaluate

DATA = Path(__file__).resolve().parent / "evaluation"
REFERENCE = DATA / "reference.json"

# Questions with four answers each, of which the model chooses the likeliest.
FACTS = {
    "task": "facts", "output_type": "multiple_choice", "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_choice": "{{choices}}", "doc_to_target": "{{answer}}",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
}
# How well the model foresees paragraphs.
PROSE = {
    "task": "prose", "output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}",
    "metric_list": [{"metric": "word_perplexity"}, {"metric": "byte_perplexity"}, {"metric": "bits_per_byte"}],
}


def evaluate(model, **arguments) -> dict:
    """Each task's metrics, and the log-likelihood of each of its texts."""
    tasks = [
        task | {
            "dataset_path": "json", "test_split": "test",
            "dataset_kwargs": {"data_files": {"test": str(DATA / f"{task['task']}.jsonl")}},
        } for task in (FACTS, PROSE)
    ]
    found = simple_evaluate(model, tasks=tasks, bootstrap_iters=0, **arguments)
    results = {}
    for name, samples in found["samples"].items():
        metrics = {
            key: value for key, value in found["results"][name].items() if key.endswith(",none") and "stderr" not in key}
        responses = [
            response for sample in sorted(samples, key=lambda sample: sample["doc_id"]) for response in sample["filtered_resps"]]
        # A choice's response also says whether it is the greedy one.
        likelihoods = [response[0] if isinstance(response, (list, tuple)) else response for response in responses]
        results[name] = {"metrics": metrics, "likelihoods": likelihoods}
    return results
