import assert from "node:assert/strict";
import { test } from "node:test";
import { parse } from "../src/route.ts";

const words = (hash: string) => {
  const { tab, id, query } = parse(hash);
  return [tab, id, query.toString()];
};

test("an address holds a tab, an id and a query", () => {
  assert.deepEqual(words("#/runs/ab?filter=a%20%3D%201"), ["runs", "ab", "filter=a+%3D+1"]);
  assert.deepEqual(words(""), ["runs", "", ""]);
  assert.deepEqual(words("#/models/a%2Fb"), ["models", "a/b", ""]);
  assert.deepEqual(words("#/models/100%"), ["models", "100%", ""]);
});

test("the addresses that mlflow prints lead to the same things", () => {
  assert.deepEqual(words("#/experiments/3"), ["runs", "", "experiments=3"]);
  assert.deepEqual(words("#/experiments/3/runs/ab"), ["runs", "ab", "experiments=3"]);
  assert.deepEqual(words("#/experiments/3/runs/ab/artifacts"), ["runs", "ab", "experiments=3"]);
  assert.deepEqual(words("#/experiments/3/models/m-1"), ["models", "m-1", ""]);
  assert.deepEqual(words("#/experiments/3?compareRunsMode=CHART"), ["runs", "", "experiments=3"]);
});
