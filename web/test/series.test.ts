import assert from "node:assert/strict";
import { test } from "node:test";
import { align, Series } from "../src/lib/series.ts";

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
  assert.deepEqual(align([train, val], "step", 0), [
    [0, 1, 1],
    [5, 4, 3],
    [undefined, 9, undefined],
  ]);
});

test("the time axis counts seconds from the run's start, in the order of time", () => {
  assert.deepEqual(align([series([0, 1, 4000], [1, 2, 3000])], "time", 2000), [
    [1, 2],
    [2, 1],
  ]);
});
