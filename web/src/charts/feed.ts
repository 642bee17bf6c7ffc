import { watch } from "../api/live.ts";
import { getCurve, type Span } from "../api/queries.ts";
import type { Double, LiveEvent, Metric } from "../api/types.ts";
import { Cell } from "../lib/cell.ts";
import { isSystem } from "../lib/groups.ts";
import { Series } from "../lib/series.ts";

type Pending = { point: Metric } | { rewind: number };

/** A curve on its way: `pending` is what the stream said about it while its history was being fetched. */
interface Curve {
  series: Series;
  /** How many points its chart can show. */
  pixels: number;
  /** The steps that it is a part of; null for the whole. */
  span: Span | null;
  pending: Pending[] | null;
  /** So long it may grow before it is asked for anew, in as many points as there are pixels. */
  limit: number;
  error: string;
}

/** A proxy may hold back the beginning of the stream; charts do not wait for it longer than this. */
const LONGEST_WAIT = 1_000;
const GROWTH = 4;

/**
 * The curves of one run, as fine as their charts are wide, and live. A curve is fetched when a chart first wants it, and
 * the part that somebody zooms into when they do; from then on every point comes over the stream. Lives outside of React,
 * because a component must not render for every point: charts listen and redraw once per frame.
 */
export class Feed {
  readonly runId: string;
  /** All metric keys known so far, in no order. */
  readonly keys = new Cell<readonly string[]>([]);
  /** Steps at which the run went on from a checkpoint. */
  rewinds: number[] = [];

  #wholes = new Map<string, Curve>();
  #parts = new Map<string, Curve>();
  /** The last point of each metric: of a long history, the server sends only what each pixel's points have in common. */
  #last = new Map<string, Metric>();
  #listeners = new Set<() => void>();
  #frame = 0;
  #abort = new AbortController();
  #isOpen = false;
  #runChanged: () => void;

  constructor(runId: string, runChanged: () => void) {
    this.runId = runId;
    this.#runChanged = runChanged;
  }

  /** Opens the stream. Where several runs lie beside each other nobody does: they are read now and then. */
  start(): void {
    document.addEventListener("visibilitychange", this.#see);
    this.#see();
  }

  stop(): void {
    document.removeEventListener("visibilitychange", this.#see);
    this.#abort.abort();
    cancelAnimationFrame(this.#frame);
  }

  /** A browser gives one server six connections: a tab that nobody sees must not hold one of them. */
  #see = (): void => {
    this.#abort.abort();
    this.#isOpen = false;
    if (document.hidden) return;
    this.#abort = new AbortController();
    const watcher = { opened: () => this.read(), heard: (event: LiveEvent) => this.#hear(event) };
    void watch(this.runId, watcher, this.#abort.signal);
    setTimeout(() => !this.#isOpen && this.read(), LONGEST_WAIT);
  };

  /** Takes the newest points that somebody has read or heard. */
  know(points: Metric[]): void {
    for (const point of points) {
      const known = this.#last.get(point.key);
      if (!known || point.step > known.step || (point.step === known.step && point.timestamp >= known.timestamp)) {
        this.#last.set(point.key, point);
      }
    }
    if (this.#last.size > this.keys.get().length) this.keys.set([...this.#last.keys()]);
  }

  last(key: string): Double | undefined {
    return this.#last.get(key)?.value;
  }

  /** Called by a chart that is on screen. The history comes later, through `listen`. */
  want(key: string, pixels: number): void {
    if (this.#wholes.has(key)) return;
    const curve = newCurve(pixels, null);
    this.#wholes.set(key, curve);
    if (this.#isOpen) void this.#load(key, curve);
  }

  /** Fetches a part of a curve more finely, if there is more to be seen in it. */
  zoom(key: string, span: Span): void {
    const whole = this.#wholes.get(key);
    if (!whole?.series.isSampled) return;
    const part = newCurve(whole.pixels, span);
    // Until it is here: what is shown now.
    part.series = this.shown(key) ?? part.series;
    this.#parts.set(key, part);
    void this.#load(key, part);
  }

  unzoom(key: string): void {
    if (this.#parts.delete(key)) this.#changed();
  }

  /** The whole curve. */
  series(key: string): Series | undefined {
    return this.#wholes.get(key)?.series;
  }

  /** What to draw: the part that was zoomed into, else the whole. */
  shown(key: string): Series | undefined {
    return (this.#parts.get(key) ?? this.#wholes.get(key))?.series;
  }

  error(key: string): string {
    return this.#wholes.get(key)?.error ?? "";
  }

  /** `listener` runs at most once per frame, after anything changed. */
  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async #load(key: string, curve: Curve): Promise<void> {
    // One pending list per fetch: a fetch that a newer one overtook finds another list here and gives way.
    const pending: Pending[] = [];
    curve.pending = pending;
    const { signal } = this.#abort;
    try {
      const series = Series.of(await getCurve(this.runId, key, curve.pixels, curve.span, signal));
      if (curve.pending !== pending) return;
      const last = this.#last.get(key);
      if (last && series.isSampled && isInside(last, curve.span) && !series.has(last)) series.add(last);
      curve.series = series;
      curve.limit = Math.max(GROWTH * curve.pixels, 2 * series.length);
      curve.error = "";
    } catch (error) {
      if (curve.pending !== pending || signal.aborted) return;
      curve.error = error instanceof Error ? error.message : String(error);
      if (curve.span) return this.unzoom(key);
    }
    curve.pending = null;
    for (const event of pending) {
      if ("rewind" in event) curve.series.rewind(event.rewind);
      // The history may already hold what the stream said meanwhile.
      else if (!curve.series.has(event.point)) curve.series.add(event.point);
    }
    this.#changed();
  }

  /** Asks for all that charts want, and for what is wanted from now on. */
  read(): void {
    this.#isOpen = true;
    for (const curves of [this.#wholes, this.#parts]) {
      for (const [key, curve] of curves) void this.#load(key, curve);
    }
    this.#runChanged();
  }

  #hear(event: LiveEvent): void {
    if (event.type === "log") this.#log(event.metrics);
    else if (event.type === "rewind") this.#rewind(event.step);
    else if (event.type === "run") this.#runChanged();
    else if (event.type === "again") this.read();
  }

  #log(metrics: Metric[]): void {
    this.know(metrics);
    for (const point of metrics) {
      for (const curves of [this.#wholes, this.#parts]) {
        const curve = curves.get(point.key);
        // A curve that no chart has asked for is fetched when one does.
        if (curve && isInside(point, curve.span)) this.#add(point, curve);
      }
    }
    this.#changed();
  }

  #add(point: Metric, curve: Curve): void {
    if (curve.pending) curve.pending.push({ point });
    else curve.series.add(point);
    if (curve.series.length > curve.limit) void this.#load(point.key, curve);
  }

  #rewind(step: number): void {
    this.rewinds = [...this.rewinds, step];
    for (const [key, point] of this.#last) {
      if (!isSystem(key) && point.step >= step) this.#last.delete(key);
    }
    for (const [key, curve] of [...this.#wholes, ...this.#parts]) {
      if (isSystem(key)) continue; // The machine's metrics count intervals; time is not rewound.
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

function newCurve(pixels: number, span: Span | null): Curve {
  return { series: new Series(), pixels, span, pending: null, limit: Number.POSITIVE_INFINITY, error: "" };
}

function isInside({ step }: Metric, span: Span | null): boolean {
  return !span || (step >= span.start && step <= span.end);
}
