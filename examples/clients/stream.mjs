// A streamed chat with plain fetch.
const url = process.env.GRAFT_URL ?? "http://localhost:8080/v1";
const reply = await fetch(`${url}/chat/completions`, {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({
    model: "base", stream: true, max_tokens: 40, temperature: 0,
    messages: [{ role: "user", content: "What is the capital of France?" }],
  }),
});
if (!reply.ok) throw new Error(await reply.text());
let buffer = "";
for await (const chunk of reply.body.pipeThrough(new TextDecoderStream())) {
  const lines = (buffer + chunk).split("\n");
  buffer = lines.pop();
  for (const line of lines) {
    if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
    process.stdout.write(JSON.parse(line.slice(6)).choices[0]?.delta.content ?? "");
  }
}
process.stdout.write("\n");
