import type { Run } from "../api/types.ts";
import { figure } from "../lib/format.ts";
import { Duration } from "../parts/Duration.tsx";
import { Status } from "../parts/Status.tsx";
import type { Column } from "../parts/Table.tsx";
import { Time } from "../parts/Time.tsx";
import { address } from "../route.ts";
import { strings } from "../strings.ts";
import type { Field } from "./choice.ts";

const words = strings.column;

interface Wishes {
  experimentNames: Map<string, string>;
  chosen: Field[];
  /** Beside an open run there is room for little. */
  isNarrow: boolean;
  /** What a row's link keeps: the filter, the columns. */
  query: URLSearchParams;
}

export function columnsFor({ experimentNames, chosen, isNarrow, query }: Wishes): Column<Run>[] {
  const name: Column<Run> = {
    id: "name",
    header: words.name,
    size: isNarrow ? 156 : 190,
    cell: ({ info }) => <a href={address("runs", info.run_id, query)}>{info.run_name || info.run_id}</a>,
  };
  const status: Column<Run> = {
    id: "status",
    header: words.status,
    size: 110,
    cell: ({ info }) => <Status of={info.status} />,
  };
  const started: Column<Run> = {
    id: "started",
    header: words.started,
    size: 82,
    cell: ({ info }) => <Time at={info.start_time} />,
  };
  const first = chosen.slice(0, 1).map(fieldColumn);
  if (isNarrow) return [name, status, started, ...first];
  const experiment: Column<Run> = {
    id: "experiment",
    header: words.experiment,
    size: 120,
    cell: ({ info }) => experimentNames.get(info.experiment_id) ?? info.experiment_id,
  };
  const duration: Column<Run> = {
    id: "duration",
    header: words.duration,
    size: 104,
    cell: ({ info }) => (
      <Duration from={info.start_time} to={info.status === "RUNNING" ? null : info.end_time} />
    ),
  };
  return [name, status, experiment, started, duration, ...chosen.map(fieldColumn)];
}

function fieldColumn(field: Field): Column<Run> {
  const key = field.slice(2);
  if (field.startsWith("m.")) {
    const cell = ({ data }: Run) => figure(data.metrics?.find((one) => one.key === key)?.value);
    return { id: field, header: key, size: 86, isNumber: true, cell };
  }
  const cell = ({ data }: Run) => data.params?.find((one) => one.key === key)?.value ?? "–";
  return { id: field, header: key, size: 96, cell };
}
