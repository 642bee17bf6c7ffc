import assert from "node:assert/strict";
import { test } from "node:test";
import { align, PER_SERIES, Series } from "../src/lib/series.ts";

function series(...points: [step: number, value: number | "NaN", time?: number][]): Series {
  const made = new Series();
  for (const [step, value, time] of points)
    made.add({ key: "k", step, value, timestamp: time ?? step * 1000 });
  return made;
}

test("a late point is put where its step belongs", () => {
  assert.deepEqual(series([0, 1], [2, 3], [1, 2]).values, [1, 2, 3]);
});

test("a rewind forgets the step itself and all after it", () => {
  const curve = series([0, 1], [1, 2], [2, 3]);
  curve.rewind(1);
  assert.deepEqual(curve.steps, [0]);
});

test("a point that the history already holds is known", () => {
  const curve = series([0, 1], [1, "NaN"]);
  assert.ok(curve.has({ key: "k", step: 1, value: "NaN", timestamp: 1000 }));
  assert.ok(!curve.has({ key: "k", step: 1, value: 2, timestamp: 1000 }));
});

test("curves of different steps share an axis, and duplicate steps of one curve both stay", () => {
  const train = series([0, 5], [1, 4, 1], [1, 3, 2]);
  const val = series([1, 9]);
  const [xs, ...ys] = align([train, val], "step", []);
  assert.deepEqual(xs, [0, 1, 1]);
  assert.deepEqual(ys[0], [5, 4, 3]);
  assert.deepEqual(ys[PER_SERIES], [undefined, 9, undefined]);
});

test("the time axis counts seconds from the run's start, in the order of time", () => {
  const [xs, values] = align([series([0, 1, 4000], [1, 2, 3000])], "time", [2000]);
  assert.deepEqual([xs, values], [
    [1, 2],
    [2, 1],
  ]);
});

const pieces = () =>
  Series.of({
    steps: [0, 10, 20],
    values: [5, 4, 3],
    mins: [1, 2, 3],
    maxs: [9, 8, 7],
    timestamps: [0, 10_000, 20_000],
  });

test("pieces of a long history have bounds, and a new point is its own", () => {
  const curve = pieces();
  curve.add({ key: "k", step: 30, value: 2, timestamp: 30_000 });
  assert.deepEqual(align([curve], "step", []), [
    [0, 10, 20, 30],
    [5, 4, 3, 2],
    [1, 2, 3, 2],
    [9, 8, 7, 2],
  ]);
  curve.rewind(10);
  assert.deepEqual([curve.values, curve.mins, curve.maxs], [[5], [1], [9]]);
});

test("of a long history only what comes after it is new", () => {
  assert.ok(pieces().has({ key: "k", step: 15, value: 1, timestamp: 15_000 }));
  assert.ok(!pieces().has({ key: "k", step: 21, value: 1, timestamp: 21_000 }));
});

test("points that are no numbers are named and not drawn", () => {
  const curve = series([0, 1], [1, "NaN"], [2, 3]);
  assert.deepEqual(curve.odd(), [{ step: 1, value: "NaN" }]);
  assert.deepEqual(align([curve], "step", [])[1], [1, null, 3]);
  assert.equal(series([0, "NaN"]).last(), "NaN");
});

test("a window of time is one of steps, with one more on either side", () => {
  const curve = series([0, 1, 0], [1, 1, 100], [2, 1, 200], [3, 1, 300]);
  assert.deepEqual(curve.stepsBetween(90, 210), { start: 0, end: 3 });
  assert.deepEqual(curve.stepsBetween(290, 900), { start: 2, end: 3 });
  assert.equal(curve.stepsBetween(110, 190), null);
});
