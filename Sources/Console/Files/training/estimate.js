// How long training will take.
import { get, post } from "/console/api.js";
import { seconds } from "/console/format.js";
import { speeds } from "/console/job-data.js";

/** Measured: the time of a trained token as a multiple of a prompt's. A step reads its rows forward twice and backward once. */
const costOfTraining = 5;
const probeTokens = 256;

let prompt = null;

/** The time for so many tokens in words: by the newest job that ran here, or by the time that a prompt takes. */
export async function timeEstimate(tokens, signal) {
  const measured = await speedOfJobs(signal);
  if (measured) return `about ${seconds(tokens / measured)}, as fast as the last job`;
  prompt ??= measurePrompt(signal).catch((error) => {
    prompt = null;
    throw error;
  });
  return `about ${seconds((tokens * costOfTraining) / (await prompt))}, by the speed of prompts; longer beside requests`;
}

async function speedOfJobs(signal) {
  const jobs = (await get("/v1/fine_tuning/jobs?limit=5", { signal })).data;
  for (const job of jobs.filter((job) => job.trained_tokens > 0)) {
    const { data } = await get(`/v1/fine_tuning/jobs/${job.id}/events?limit=1000`, { signal });
    const points = speeds(data.filter((event) => event.type === "metrics").reverse());
    if (points.length > 0) return points.at(-1)[1];
  }
  return null;
}

/** Tokens of a prompt per second. The ids are random, so that the prompt is not in the cache. */
async function measurePrompt(signal) {
  const ids = Array.from({ length: probeTokens }, () => 200 + Math.floor(Math.random() * 20_000));
  const began = performance.now();
  await post("/v1/completions", { prompt: ids, max_tokens: 1, temperature: 0 }, { signal });
  return (probeTokens * 1000) / (performance.now() - began);
}
