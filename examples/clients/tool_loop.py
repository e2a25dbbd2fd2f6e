"""An agent in one loop: the model calls tools that look at the files of a folder, until it answers.

Usage: tool_loop.py [folder]
"""

import json
import os
import pathlib
import sys

from openai import OpenAI

FOLDER = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
FILES = sorted(path.name for path in FOLDER.iterdir() if path.is_file())
STEPS = 4


def count_lines(file: str) -> int:
    return len((FOLDER / file).read_text().splitlines())


def file_size(file: str) -> int:
    return (FOLDER / file).stat().st_size


TOOLS = {"count_lines": (count_lines, "Counts the lines of a file."), "file_size": (file_size, "The bytes of a file.")}
# The names of files are an enumeration, so no call can name a file that is not there.
ARGUMENTS = {"type": "object", "properties": {"file": {"enum": FILES}}, "required": ["file"], "additionalProperties": False}
client = OpenAI(base_url=os.environ.get("GRAFT_URL", "http://localhost:8080/v1"), api_key="none")
messages = [{"role": "user", "content": f"How many lines does {FILES[0]} have?"}]
for step in range(STEPS):
    # It must begin with a call and end with an answer; between them it chooses.
    choice = "required" if step == 0 else "none" if step == STEPS - 1 else "auto"
    message = client.chat.completions.create(
        model="base", messages=messages, temperature=0, max_tokens=100, tool_choice=choice, parallel_tool_calls=False,
        tools=[{"type": "function", "function": {
            "name": name, "description": description, "parameters": ARGUMENTS, "strict": True}}
            for name, (_, description) in TOOLS.items()],
    ).choices[0].message
    messages.append(message)
    if not message.tool_calls:
        print(message.content)
        break
    for call in message.tool_calls:
        result = TOOLS[call.function.name][0](**json.loads(call.function.arguments))
        print(f"{call.function.name}({call.function.arguments}) = {result}")
        messages.append({"role": "tool", "tool_call_id": call.id, "content": str(result)})
