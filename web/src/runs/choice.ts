import type { Pair, Run } from "../api/types.ts";

/** A metric, a param or a tag that can be a column of the list: `m.loss`, `p.lr`, `t.team`. Such words stand in the address. */
export type Field = `m.${string}` | `p.${string}` | `t.${string}`;

export interface Fields {
  metrics: Field[];
  params: Field[];
  tags: Field[];
}

const OF_EACH = 3;

/** All metrics, params and tags that these runs have, the most frequent first. */
export function fields(runs: Run[]): Fields {
  const counts = { m: new Map<Field, number>(), p: new Map<Field, number>(), t: new Map<Field, number>() };
  for (const { data } of runs) {
    for (const kind of ["m", "p", "t"] as const) {
      for (const { key } of pairsOf(data, kind)) count(counts[kind], `${kind}.${key}`);
    }
  }
  return { metrics: ranked(counts.m), params: ranked(counts.p), tags: ranked(counts.t) };
}

/** What to show to somebody who has chosen nothing: what most runs have, without the machine's own metrics. */
export function usual({ metrics, params }: Fields): Field[] {
  const training = metrics.filter((field) => !field.startsWith("m.system/"));
  return [...training.slice(0, OF_EACH), ...params.slice(0, OF_EACH)];
}

/** A field in the words of the filter language; backticks, because a key may be anything. */
export function inFilter(field: Field): string {
  const kind = { m: "metrics", p: "params", t: "tags" }[field[0] as "m" | "p" | "t"];
  return `${kind}.\`${field.slice(2)}\``;
}

/** The columns that an address asks for; null when it says nothing that can be understood. */
export function readColumns(text: string | null): Field[] | null {
  try {
    const value: unknown = JSON.parse(text ?? "null");
    return Array.isArray(value) ? value.filter((one): one is Field => /^[mpt]\../.test(String(one))) : null;
  } catch {
    return null;
  }
}

function pairsOf(data: Run["data"], kind: "m" | "p" | "t"): readonly { key: string }[] {
  return (kind === "m" ? data.metrics : kind === "p" ? data.params : data.tags) ?? [];
}

export function tag(run: { data: { tags?: Pair[] } }, key: string): string {
  return run.data.tags?.find((one) => one.key === key)?.value ?? "";
}

function count(into: Map<Field, number>, field: Field): void {
  into.set(field, (into.get(field) ?? 0) + 1);
}

function ranked(counts: Map<Field, number>): Field[] {
  return [...counts].toSorted((a, b) => b[1] - a[1] || a[0].localeCompare(b[0])).map(([field]) => field);
}

/** The runs that an address lays side by side. */
export function compared(query: URLSearchParams): string[] {
  return (query.get("compare") ?? "").split(",").filter(Boolean);
}
