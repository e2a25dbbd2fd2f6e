// What the browser keeps. Everything works without it, for example where a browser forbids it.

export function load(key, fallback) {
  try {
    return JSON.parse(localStorage.getItem("graft." + key)) ?? fallback;
  } catch {
    return fallback;
  }
}

/** Returns whether the value could be kept. */
export function save(key, value) {
  try {
    localStorage.setItem("graft." + key, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

export function forget(key) {
  try {
    localStorage.removeItem("graft." + key);
  } catch {
    // Nothing was kept.
  }
}

export function randomName() {
  return Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
