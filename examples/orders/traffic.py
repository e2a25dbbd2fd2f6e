"""Requests that others might send while an adapter is trained."""

import statistics
import threading
import time

QUESTIONS = ["What is bread made of?", "Name three colours.", "Why is the sky blue?", "How do I make tea?"]
PAUSE = 1.0


class Traffic:
    """Asks the base a question again and again, as a stream, with a pause of a second between."""

    def __init__(self, client):
        self.client = client
        self.first, self.between = [], []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        count = 0
        while not self.over.wait(PAUSE):
            self._ask(QUESTIONS[count % len(QUESTIONS)])
            count += 1

    def _ask(self, question):
        times = [time.monotonic()]
        stream = self.client.chat.completions.create(
            model="base", messages=[{"role": "user", "content": question}], temperature=0, max_tokens=40, stream=True)
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                times.append(time.monotonic())
        self.first.append(times[1] - times[0])
        self.between += [later - earlier for earlier, later in zip(times[1:], times[2:])]

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def figures(self):
        """How many requests there were, the medians of the time to the first token and between tokens, in milliseconds."""
        return {"requests": len(self.first), "first_token_ms": 1000 * statistics.median(self.first),
                "between_tokens_ms": 1000 * statistics.median(self.between)}

    def summary(self):
        found = self.figures()
        return (f"{found['requests']} chats: {found['first_token_ms']:.0f} ms to the first token, "
                f"{found['between_tokens_ms']:.1f} ms between tokens")
