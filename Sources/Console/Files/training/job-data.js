// The events of a job as they come, and the series of its charts.
import { events, get, request } from "/console/api.js";

/** The window that a speed is the mean of, in seconds. Times of events have no fractions of seconds. */
const speedWindow = 4;
/** A longer time between two steps is a pause. */
const pause = 60;

/** Tokens per second as `[step, speed]`, of metrics events in order. */
export function speeds(metrics) {
  const points = [];
  let begin = 0;
  for (let i = 1; i < metrics.length; i += 1) {
    if (metrics[i].created_at - metrics[i - 1].created_at > pause) begin = i;
    while (begin < i - 1 && metrics[i].created_at - metrics[begin + 1].created_at >= speedWindow) begin += 1;
    const span = metrics[i].created_at - metrics[begin].created_at;
    if (span < speedWindow) continue;
    const tokens = metrics.slice(begin + 1, i + 1).reduce((sum, event) => sum + event.data.tokens, 0);
    points.push([metrics[i].data.step, tokens / span]);
  }
  return points;
}

/** The series of a job's charts, made of all its events. A step that was repeated counts once. */
export function series(list) {
  const steps = new Map();
  const validations = new Map();
  for (const event of list) {
    if (event.type === "metrics") steps.set(event.data.step, event);
    if (Number.isFinite(event.data?.valid_loss)) validations.set(event.data.step, event.data.valid_loss);
  }
  const metrics = [...steps.values()];
  const of = (name) => metrics.map((event) => [event.data.step, event.data[name]]);
  return {
    training: of("train_loss"), validation: [...validations].sort((a, b) => a[0] - b[0]), rate: of("learning_rate"),
    norm: of("grad_norm"), speed: speeds(metrics), last: metrics.at(-1)?.data,
  };
}

/** Calls `take` with groups of a job's events, past and future, until the job is over. */
export async function follow(id, signal, take) {
  let after = null;
  for (;;) {
    try {
      const query = new URLSearchParams({ stream: "true", ...(after && { after }) });
      const response = await request(`/v1/fine_tuning/jobs/${id}/events?${query}`, { signal });
      let group = [];
      let isDue = false;
      const flush = () => {
        isDue = false;
        if (group.length > 0 && !signal.aborted) take(group.splice(0));
      };
      for await (const event of events(response)) {
        after = event.id;
        group.push(event);
        // Drawn once for all events that come together.
        if (!isDue) setTimeout(flush, 100);
        isDue = true;
      }
      flush();
      return;
    } catch (error) {
      if (error.name === "AbortError" || signal.aborted || error.status) throw error;
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }
}

/** All past events, oldest first. */
export async function pastEvents(id, signal) {
  const list = [];
  let after = null;
  for (;;) {
    const query = new URLSearchParams({ limit: 10_000, ...(after && { after }) });
    const page = await get(`/v1/fine_tuning/jobs/${id}/events?${query}`, { signal });
    list.push(...page.data);
    if (!page.has_more || page.data.length === 0) return list.reverse();
    after = page.data.at(-1).id;
  }
}
