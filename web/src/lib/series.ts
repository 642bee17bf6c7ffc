import type { Double, Metric, Points } from "../api/types.ts";

export type Axis = "step" | "time";

/** One metric's history in memory, kept in the order (step, timestamp), as the server keeps it. */
export class Series {
  steps: number[] = [];
  values: (number | null)[] = [];
  timestamps: number[] = [];

  static of(points: Points): Series {
    const series = new Series();
    series.steps = points.steps;
    series.values = points.values.map(finite);
    series.timestamps = points.timestamps;
    return series;
  }

  get length(): number {
    return this.steps.length;
  }

  /** Nearly always appends; a late point is put where it belongs. */
  add(point: Metric): void {
    let at = this.length;
    while (at > 0 && this.#isAfter(at - 1, point)) at--;
    if (at === this.length) {
      this.steps.push(point.step);
      this.values.push(finite(point.value));
      this.timestamps.push(point.timestamp);
    } else {
      this.steps.splice(at, 0, point.step);
      this.values.splice(at, 0, finite(point.value));
      this.timestamps.splice(at, 0, point.timestamp);
    }
  }

  has(point: Metric): boolean {
    for (let at = this.length - 1; at >= 0 && (this.steps[at] as number) >= point.step; at--) {
      if (this.steps[at] === point.step && this.timestamps[at] === point.timestamp) {
        if (this.values[at] === finite(point.value)) return true;
      }
    }
    return false;
  }

  /** Forgets the points at `step` and after it. */
  rewind(step: number): void {
    let end = this.length;
    while (end > 0 && (this.steps[end - 1] as number) >= step) end--;
    this.steps.length = end;
    this.values.length = end;
    this.timestamps.length = end;
  }

  last(): number | null | undefined {
    return this.values[this.length - 1];
  }

  #isAfter(at: number, point: Metric): boolean {
    const step = this.steps[at] as number;
    return step > point.step || (step === point.step && (this.timestamps[at] as number) > point.timestamp);
  }
}

export function finite(value: Double): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

/** x, then one column of y per series. null is a hole in the curve, undefined is only another curve's x. */
export type Columns = [number[], ...(number | null | undefined)[][]];

/**
 * Several series on one x axis, in one pass. Points of one x are put side by side only across series:
 * two points of the same series at the same step both stay. `zero` is where the time axis begins.
 */
export function align(series: Series[], axis: Axis, zero: number): Columns {
  const sources = series.map((one) => (axis === "step" ? one : byTime(one, zero)));
  const xs: number[] = [];
  const ys: (number | null | undefined)[][] = series.map(() => []);
  const at = series.map(() => 0);
  for (;;) {
    let x = Number.POSITIVE_INFINITY;
    for (const [i, one] of sources.entries()) x = Math.min(x, one.steps[at[i] as number] ?? x);
    if (x === Number.POSITIVE_INFINITY) return [xs, ...ys];
    xs.push(x);
    for (const [i, one] of sources.entries()) {
      const here = one.steps[at[i] as number] === x;
      (ys[i] as (number | null | undefined)[]).push(here ? one.values[at[i] as number] : undefined);
      if (here) at[i] = (at[i] as number) + 1;
    }
  }
}

function byTime(series: Series, zero: number): { steps: number[]; values: (number | null)[] } {
  const order = series.timestamps.map((_, i) => i);
  order.sort((a, b) => (series.timestamps[a] as number) - (series.timestamps[b] as number));
  return {
    steps: order.map((i) => ((series.timestamps[i] as number) - zero) / 1000),
    values: order.map((i) => series.values[i] as number | null),
  };
}
