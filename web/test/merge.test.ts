import assert from "node:assert/strict";
import { test } from "node:test";
import type { Run } from "../src/api/types.ts";
import { hasGap, merge } from "../src/runs/merge.ts";

const run = (start: number) => ({ info: { run_id: `r${start}`, start_time: start } }) as Run;
const page = (next: string, ...starts: number[]) => ({ runs: starts.map(run), next_page_token: next });
const starts = (runs: Run[]) => runs.map((one) => one.info.start_time);

test("new runs come on top and the older pages stay below", () => {
  assert.deepEqual(starts(merge([page("a", 4, 3), page("", 2, 1)], page("b", 5, 4), true)), [5, 4, 3, 2, 1]);
});

test("a run that left the newest page's range is gone", () => {
  assert.deepEqual(starts(merge([page("a", 4, 3), page("", 2)], page("b", 4, 2), true)), [4, 2]);
  assert.deepEqual(starts(merge([page("", 4, 3)], page("", 4), true)), [4]);
});

test("more new runs than one page leave a gap", () => {
  assert.ok(hasGap([page("a", 4, 3)], page("b", 9, 8), true));
  assert.ok(!hasGap([page("a", 4, 3)], page("b", 5, 4), true));
});

test("in an order other than time the first page stands as it is, and a new face in it asks for all again", () => {
  const pages = [page("a", 1, 3), page("", 2)];
  assert.deepEqual(starts(merge(pages, page("b", 3, 1), false)), [3, 1, 2]);
  assert.ok(!hasGap(pages, page("b", 3, 1), false));
  assert.ok(hasGap(pages, page("b", 2, 3), false));
  assert.ok(!hasGap([page("", 1)], page("", 2), false));
});
