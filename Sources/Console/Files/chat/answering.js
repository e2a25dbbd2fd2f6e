// Asks the server for an answer and reports it as it comes.
import { events, request } from "/console/api.js";
import { selector } from "/console/picker.js";
import { fieldsOf } from "/console/sampling.js";

/** An answer without text, which `run` completes. `parts` are pieces of text with the log-probabilities of their tokens. */
export function emptyAnswer(terms) {
  return { adapter: selector(terms), text: "", parts: [], tokens: 0, isRunning: true };
}

/**
 * Fills an answer in from a stream. `changed` is called with each new part, and without one when anything else changed.
 * It does not throw: a failure is in the answer.
 */
export async function run(answer, messages, settings, signal, changed) {
  const began = performance.now();
  let first = null;
  let last = null;
  try {
    const response = await request("/v1/chat/completions", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({
        messages, adapter: answer.adapter, stream: true, stream_options: { include_usage: true }, ...fieldsOf(settings),
      }),
      signal,
    });
    answer.warning = response.headers.get("x-graft-warning") ?? undefined;
    for await (const event of events(response)) {
      if (event.usage) {
        answer.tokens = event.usage.completion_tokens;
        answer.promptTokens = event.usage.prompt_tokens;
        answer.cachedTokens = event.usage.prompt_tokens_details?.cached_tokens;
      }
      const choice = event.choices?.[0];
      if (!choice) continue;
      if (choice.finish_reason) answer.finish = choice.finish_reason;
      const text = choice.delta?.content ?? "";
      const tokens = choice.logprobs?.content ?? [];
      if (text === "" && tokens.length === 0) continue;
      last = performance.now();
      first ??= last;
      answer.tokens += tokens.length || 1;
      answer.text += text;
      const part = { text, tokens };
      answer.parts.push(part);
      measure();
      changed(part);
    }
  } catch (error) {
    if (error.name === "AbortError") answer.finish = "stopped";
    else answer.error = error.message;
  }
  measure();
  answer.isRunning = false;
  changed();

  function measure() {
    if (first === null) return;
    answer.firstToken = (first - began) / 1000;
    // The first token's time is the prompt's.
    if (answer.tokens > 1 && last > first) answer.speed = ((answer.tokens - 1) * 1000) / (last - first);
  }
}
