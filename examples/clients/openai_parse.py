"""An answer that is an object of a Python class."""

import os
from typing import Literal

from openai import OpenAI
from pydantic import BaseModel, Field


class Review(BaseModel):
    verdict: Literal["good", "bad"]
    stars: int = Field(ge=1, le=5)


client = OpenAI(base_url=os.environ.get("GRAFT_URL", "http://localhost:8080/v1"), api_key="none")
answer = client.chat.completions.parse(
    model="base", response_format=Review, temperature=0,
    messages=[{"role": "user", "content": "Judge this review: 'The soup was cold, but we laughed a lot.'"}])
review = answer.choices[0].message.parsed
print(f"{review.verdict}, {review.stars} stars")
