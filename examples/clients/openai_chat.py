"""The same question to the base, to an adapter, and to a mix of two, each streamed."""

import os

from openai import OpenAI

client = OpenAI(base_url=os.environ.get("GRAFT_URL", "http://localhost:8080/v1"), api_key="none")
for model in ("base", "pirate", "pirate:0.5,shout:0.33"):
    print(f"{model}: ", end="")
    stream = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "What is the capital of France?"}],
        max_tokens=40, temperature=0, stream=True)
    for chunk in stream:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()
