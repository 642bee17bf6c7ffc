import type { Double, Metric, Points } from "../api/types.ts";

export type Axis = "step" | "time";

/** A y to draw: null is a hole in the curve, undefined is only another curve's x. */
type Y = number | null | undefined;

/**
 * One metric's history in memory, kept in the order (step, timestamp), as the server keeps it. Of a long one the server
 * sends pieces: `values` are their means then, and `mins` and `maxs` what lies around them. Elsewhere all three are equal.
 */
export class Series {
  steps: number[] = [];
  values: Double[] = [];
  mins: Double[] = [];
  maxs: Double[] = [];
  timestamps: number[] = [];
  /** Whether points lie behind these that are not here. */
  isSampled = false;

  static of({ steps, values, mins, maxs, timestamps }: Points): Series {
    const series = new Series();
    series.isSampled = Boolean(mins?.length && maxs?.length);
    Object.assign(series, { steps, values, timestamps });
    // A short curve is its own bounds; the arrays are three only where they differ.
    series.mins = series.isSampled ? (mins as Double[]) : values;
    series.maxs = series.isSampled ? (maxs as Double[]) : values;
    return series;
  }

  get length(): number {
    return this.steps.length;
  }

  /** Nearly always appends; a late point is put where it belongs. */
  add(point: Metric): void {
    let at = this.length;
    while (at > 0 && this.#isAfter(at - 1, point)) at--;
    this.steps.splice(at, 0, point.step);
    this.timestamps.splice(at, 0, point.timestamp);
    for (const column of new Set([this.values, this.mins, this.maxs])) column.splice(at, 0, point.value);
  }

  /** Whether the history holds this point. Of a sampled one only its end can be told: it may hold all that is not after it. */
  has(point: Metric): boolean {
    if (this.isSampled) return this.length > 0 && !this.#isBefore(this.length - 1, point);
    for (let at = this.length - 1; at >= 0 && (this.steps[at] as number) >= point.step; at--) {
      if (this.steps[at] === point.step && this.timestamps[at] === point.timestamp) {
        if (this.values[at] === point.value) return true;
      }
    }
    return false;
  }

  /** Forgets the points at `step` and after it. */
  rewind(step: number): void {
    let end = this.length;
    while (end > 0 && (this.steps[end - 1] as number) >= step) end--;
    for (const column of [this.steps, this.values, this.mins, this.maxs, this.timestamps]) column.length = end;
  }

  last(): Double | undefined {
    return this.values[this.length - 1];
  }

  /** Where the value is no number, and what it is instead. */
  odd(): { step: number; value: string }[] {
    const found: { step: number; value: string }[] = [];
    for (const [at, value] of this.values.entries()) {
      if (typeof value === "string") found.push({ step: this.steps[at] as number, value });
    }
    return found;
  }

  /** The steps between two times, and one more on either side; null if there are none. */
  stepsBetween(from: number, to: number): { start: number; end: number } | null {
    const inside = this.timestamps.flatMap((time, at) => (time >= from && time <= to ? [at] : []));
    const [first, last] = [inside[0], inside.at(-1)];
    if (first === undefined || last === undefined) return null;
    const step = (at: number) => this.steps[Math.max(0, Math.min(at, this.length - 1))] as number;
    return { start: step(first - 1), end: step(last + 1) };
  }

  #isAfter(at: number, point: Metric): boolean {
    const step = this.steps[at] as number;
    return step > point.step || (step === point.step && (this.timestamps[at] as number) > point.timestamp);
  }

  #isBefore(at: number, point: Metric): boolean {
    const step = this.steps[at] as number;
    return step < point.step || (step === point.step && (this.timestamps[at] as number) < point.timestamp);
  }
}

export function finite(value: Double | undefined): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

/** x, then for each series its values, its least and its greatest ones. */
export type Columns = [number[], ...Y[][]];
export const PER_SERIES = 3;

/**
 * Several series on one x axis, in one pass. Points of one x are put side by side only across series:
 * two points of the same series at the same step both stay. `zeros` are where the time axis begins for each.
 */
export function align(series: Series[], axis: Axis, zeros: number[]): Columns {
  const sources = series.map((one, i) => (axis === "step" ? byStep(one) : byTime(one, zeros[i] ?? 0)));
  const xs: number[] = [];
  const places: number[][] = sources.map(() => []);
  const at = sources.map(() => 0);
  for (;;) {
    let x = Number.POSITIVE_INFINITY;
    for (const [i, { xs: own }] of sources.entries()) x = Math.min(x, own[at[i] as number] ?? x);
    if (x === Number.POSITIVE_INFINITY) break;
    xs.push(x);
    for (const [i, { xs: own }] of sources.entries()) {
      const here = own[at[i] as number] === x;
      places[i]?.push(here ? (at[i] as number) : -1);
      if (here) at[i] = (at[i] as number) + 1;
    }
  }
  return [xs, ...sources.flatMap((source, i) => columnsOf(source, series[i] as Series, places[i] as number[]))];
}

interface Source {
  xs: number[];
  /** Where in the series the point of an x lies. */
  index: (at: number) => number;
}

function columnsOf(source: Source, { values, mins, maxs }: Series, places: number[]): Y[][] {
  return [values, mins, maxs].map((column) =>
    places.map((at) => (at < 0 ? undefined : finite(column[source.index(at)]))),
  );
}

function byStep(series: Series): Source {
  return { xs: series.steps, index: (at) => at };
}

function byTime(series: Series, zero: number): Source {
  const order = series.timestamps.map((_, i) => i);
  order.sort((a, b) => (series.timestamps[a] as number) - (series.timestamps[b] as number));
  return {
    xs: order.map((i) => ((series.timestamps[i] as number) - zero) / 1000),
    index: (at) => order[at] as number,
  };
}
