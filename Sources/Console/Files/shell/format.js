// Numbers, sizes and times as text.

const units = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(value) {
  if (value === undefined || value === null) return "–";
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toPrecision(3)} ${units[unit]}`;
}

export function count(value) {
  return value === undefined || value === null ? "–" : Math.round(value).toLocaleString("en");
}

/** About three digits. */
export function decimal(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 100) return count(value);
  if (size < 0.001) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

export function seconds(value) {
  if (!Number.isFinite(value)) return "–";
  if (value < 1) return `${decimal(value * 1000)} ms`;
  if (value < 60) return `${value < 10 ? decimal(value) : Math.round(value)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
  return `${Math.floor(value / 3600)} h ${Math.round((value % 3600) / 60)} min`;
}

/** A point in time, given in seconds since 1970. */
export function time(value) {
  return value ? new Date(value * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }) : "–";
}
