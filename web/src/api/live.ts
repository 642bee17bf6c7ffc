import { ask, Failure } from "./http.ts";
import { events } from "./sse.ts";
import type { LiveEvent } from "./types.ts";

const FIRST_WAIT = 500;
const LONGEST_WAIT = 5_000;

export interface Watcher {
  /** The stream stands: whatever is read from now on misses nothing. Called again after each reconnection. */
  opened(): void;
  heard(event: LiveEvent): void;
}

/**
 * Streams one run's events until `signal` aborts, reconnecting with growing waits.
 * EventSource cannot send an Authorization header, so this is a fetch whose body is read as it comes.
 */
export async function watch(runId: string, watcher: Watcher, signal: AbortSignal): Promise<void> {
  let wait = FIRST_WAIT;
  while (!signal.aborted) {
    try {
      const query = new URLSearchParams({ run_id: runId });
      const response = await ask(`api/2.0/noria/live?${query}`, { signal, cache: "no-store" });
      if (!response.body) throw new Failure(response.status, "no body");
      wait = FIRST_WAIT;
      watcher.opened();
      for await (const data of events(response.body)) watcher.heard(JSON.parse(data) as LiveEvent);
    } catch (error) {
      // A refusal (no such run, no token) will not mend itself by asking again.
      if (error instanceof Failure && error.status < 500) return;
    }
    await pause(wait, signal);
    wait = Math.min(wait * 2, LONGEST_WAIT);
  }
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
