// Settings in localStorage: kept in memory where the browser refuses storage.

const memory = new Map();

function stored(name) {
  try {
    return localStorage.getItem(`moongate.${name}`);
  } catch {
    return memory.get(name) ?? null;
  }
}

/** Stores a string; null removes the setting. */
function store(name, value) {
  try {
    if (value === null) localStorage.removeItem(`moongate.${name}`);
    else localStorage.setItem(`moongate.${name}`, value);
  } catch {
    if (value === null) memory.delete(name);
    else memory.set(name, value);
  }
}
