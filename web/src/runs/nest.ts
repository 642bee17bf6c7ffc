import type { Run } from "../api/types.ts";
import { tag } from "./choice.ts";

export const PARENT = "mlflow.parentRunId";

/** A run with its place in the tree: how deep it lies, and how many runs lie directly in it. */
export interface Nested {
  run: Run;
  depth: number;
  children: number;
}

/**
 * Runs with those that were started inside of them right below. Only what is read already can be put in its place: a run
 * whose parent is not (yet) among them stays where it is. `closed` are the ids of those whose children are hidden.
 */
export function nest(runs: Run[], closed: ReadonlySet<string>): Nested[] {
  const known = new Set(runs.map((run) => run.info.run_id));
  const inside = new Map<string, Run[]>();
  const parentOf = (run: Run) => tag(run, PARENT);
  for (const run of runs) {
    const parent = parentOf(run);
    if (known.has(parent) && parent !== run.info.run_id) inside.set(parent, [...(inside.get(parent) ?? []), run]);
  }
  const rows: Nested[] = [];
  const placed = new Set<string>();
  function place(run: Run, depth: number, isHidden: boolean): void {
    const id = run.info.run_id;
    if (placed.has(id)) return;
    placed.add(id);
    const own = inside.get(id) ?? [];
    if (!isHidden) rows.push({ run, depth, children: own.length });
    for (const child of own) place(child, depth + 1, isHidden || closed.has(id));
  }
  for (const run of runs) if (!known.has(parentOf(run))) place(run, 0, false);
  // What is left are runs that are each other's parents.
  for (const run of runs) place(run, 0, false);
  return rows;
}

/** The same list without a tree. */
export function flat(runs: Run[]): Nested[] {
  return runs.map((run) => ({ run, depth: 0, children: 0 }));
}
