/** One parameter or metric of several runs; undefined where a run has none. */
export interface Compared {
  key: string;
  values: (string | undefined)[];
  isSame: boolean;
}

/** What `of` says of each run, a row for each key; those in which the runs differ come first. */
export function lay<Run>(runs: Run[], of: (run: Run) => [string, string][]): Compared[] {
  const columns = runs.map((run) => new Map(of(run)));
  const keys = [...new Set(columns.flatMap((column) => [...column.keys()]))].toSorted((a, b) => a.localeCompare(b));
  const rows = keys.map((key) => {
    const values = columns.map((column) => column.get(key));
    return { key, values, isSame: values.every((value) => value === values[0]) };
  });
  return rows.toSorted((a, b) => Number(a.isSame) - Number(b.isSame));
}
