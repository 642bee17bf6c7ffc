import type { Run } from "../api/types.ts";

/** A metric or a param that can be a column of the list: `m.loss`, `p.lr`. Such words stand in the address. */
export type Field = `m.${string}` | `p.${string}`;

const OF_EACH = 3;

/** All metrics and params that these runs have, the most frequent first. */
export function fields(runs: Run[]): { metrics: Field[]; params: Field[] } {
  const metrics = new Map<Field, number>();
  const params = new Map<Field, number>();
  for (const run of runs) {
    for (const { key } of run.data.metrics ?? []) count(metrics, `m.${key}`);
    for (const { key } of run.data.params ?? []) count(params, `p.${key}`);
  }
  return { metrics: ranked(metrics), params: ranked(params) };
}

/** What to show to somebody who has chosen nothing: what most runs have, without the machine's own metrics. */
export function usual({ metrics, params }: ReturnType<typeof fields>): Field[] {
  const training = metrics.filter((field) => !field.startsWith("m.system/"));
  return [...training.slice(0, OF_EACH), ...params.slice(0, OF_EACH)];
}

function count(into: Map<Field, number>, field: Field): void {
  into.set(field, (into.get(field) ?? 0) + 1);
}

function ranked(counts: Map<Field, number>): Field[] {
  return [...counts].toSorted((a, b) => b[1] - a[1] || a[0].localeCompare(b[0])).map(([field]) => field);
}
