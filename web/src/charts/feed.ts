import { watch } from "../api/live.ts";
import { getCurve } from "../api/queries.ts";
import type { LiveEvent, Metric } from "../api/types.ts";
import { Cell } from "../lib/cell.ts";
import { Series } from "../lib/series.ts";

type Pending = { point: Metric } | { rewind: number };

/** A curve on its way: `pending` is what the stream said about it while its history was being fetched. */
interface Curve {
  series: Series;
  pending: Pending[] | null;
  error: string;
}

/**
 * The curves of one run, whole and live. A history is fetched once when a chart first wants it (and again after the
 * stream was interrupted); from then on every point comes over the stream. Lives outside of React, because a
 * component must not render for every point: charts listen and redraw once per frame.
 */
export class Feed {
  readonly runId: string;
  /** All metric keys known so far, in no order. */
  readonly keys = new Cell<readonly string[]>([]);
  /** Steps at which the run went on from a checkpoint. */
  rewinds: number[] = [];

  #curves = new Map<string, Curve>();
  #listeners = new Set<() => void>();
  #frame = 0;
  #abort = new AbortController();
  #runChanged: () => void;

  constructor(runId: string, runChanged: () => void) {
    this.runId = runId;
    this.#runChanged = runChanged;
  }

  start(): void {
    const watcher = { opened: () => this.#refetch(), heard: (event: LiveEvent) => this.#hear(event) };
    void watch(this.runId, watcher, this.#abort.signal);
  }

  stop(): void {
    this.#abort.abort();
    cancelAnimationFrame(this.#frame);
  }

  know(keys: Iterable<string>): void {
    const all = new Set([...this.keys.get(), ...keys]);
    if (all.size > this.keys.get().length) this.keys.set([...all]);
  }

  /** Called by a chart that is on screen. The history comes later, through `listen`. */
  want(key: string): void {
    if (!this.#curves.has(key)) void this.#load(key);
  }

  series(key: string): Series | undefined {
    return this.#curves.get(key)?.series;
  }

  error(key: string): string {
    return this.#curves.get(key)?.error ?? "";
  }

  /** `listener` runs at most once per frame, after anything changed. */
  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async #load(key: string): Promise<void> {
    const curve: Curve = this.#curves.get(key) ?? { series: new Series(), pending: null, error: "" };
    this.#curves.set(key, curve);
    // One pending list per fetch: a fetch that a newer one overtook finds another list here and gives way.
    const pending: Pending[] = [];
    curve.pending = pending;
    try {
      const series = Series.of(await getCurve(this.runId, key, this.#abort.signal));
      if (curve.pending !== pending) return;
      for (const event of pending) {
        if ("rewind" in event) series.rewind(event.rewind);
        // The history may already hold what the stream said meanwhile.
        else if (!series.has(event.point)) series.add(event.point);
      }
      curve.series = series;
      curve.error = "";
    } catch (error) {
      if (curve.pending !== pending || this.#abort.signal.aborted) return;
      for (const event of pending) {
        if ("rewind" in event) curve.series.rewind(event.rewind);
        else curve.series.add(event.point);
      }
      curve.error = error instanceof Error ? error.message : String(error);
    }
    curve.pending = null;
    this.#changed();
  }

  #refetch(): void {
    for (const key of this.#curves.keys()) void this.#load(key);
    this.#runChanged();
  }

  #hear(event: LiveEvent): void {
    if (event.type === "log") this.#log(event.metrics);
    else if (event.type === "rewind") this.#rewind(event.step);
    else if (event.type === "run") this.#runChanged();
    else if (event.type === "again") this.#refetch();
  }

  #log(metrics: Metric[]): void {
    this.know(metrics.map((metric) => metric.key));
    for (const point of metrics) {
      const curve = this.#curves.get(point.key);
      // A curve that no chart has asked for is fetched whole when one does.
      if (!curve) continue;
      if (curve.pending) curve.pending.push({ point });
      else curve.series.add(point);
    }
    this.#changed();
  }

  #rewind(step: number): void {
    this.rewinds = [...this.rewinds, step];
    for (const [key, curve] of this.#curves) {
      if (key.startsWith("system/")) continue; // The machine's metrics count intervals; time is not rewound.
      if (curve.pending) curve.pending.push({ rewind: step });
      else curve.series.rewind(step);
    }
    this.#changed();
  }

  #changed(): void {
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      for (const listener of this.#listeners) listener();
    });
  }
}
