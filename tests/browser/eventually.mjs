// Waits for facts with a time limit.

/** ms. Far above the time of any fact; only a fault reaches it. */
export const LIMIT = 30_000;

const POLL_INTERVAL = 25;

/** Polls until `fact` returns a true value, and returns it. An error counts as false and is the reason of a failure. */
export async function eventually(what, fact, limit = LIMIT) {
  const deadline = Date.now() + limit;
  let reason = "";
  for (;;) {
    try {
      const value = await fact();
      if (value) return value;
      reason = JSON.stringify(value) ?? "";
    } catch (error) {
      reason = error.message;
    }
    if (Date.now() > deadline) throw new Error(`${what}: not within ${limit} ms: ${reason}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL));
  }
}
