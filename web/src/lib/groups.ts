// Which metrics share a chart: `loss` with `val_loss`, `train/acc` with `val/acc`.

const SPLIT = "(?:train|training|val|valid|validation|eval|test)";
const BEFORE = new RegExp(`^${SPLIT}[_/.\\-]`, "i");
const AFTER = new RegExp(`[_/.\\-]${SPLIT}$`, "i");

export interface Group {
  /** What the chart is called: what its metrics have in common, or the name of its only metric. */
  name: string;
  keys: string[];
}

function base(key: string): string {
  return key.replace(BEFORE, "").replace(AFTER, "");
}

export function isSystem(key: string): boolean {
  return key.startsWith("system/");
}

/** Metrics of the training first, in the order of their names, then those of the machine. */
export function group(keys: Iterable<string>): Group[] {
  const found = new Map<string, string[]>();
  for (const key of [...keys].toSorted()) {
    const name = base(key);
    const members = found.get(name);
    if (members) members.push(key);
    else found.set(name, [key]);
  }
  return [...found]
    .map(([name, members]) => ({
      name: members.length === 1 ? (members[0] as string) : name,
      // The plain or training curve first: it gets the first colour in every chart.
      keys: members.toSorted((a, b) => rank(a, name) - rank(b, name)),
    }))
    .toSorted((a, b) => Number(isSystem(a.name)) - Number(isSystem(b.name)) || a.name.localeCompare(b.name));
}

function rank(key: string, name: string): number {
  if (key === name) return 0;
  return /train/i.test(key) ? 1 : 2;
}
