import type { Run } from "../api/types.ts";
import { figure } from "../lib/format.ts";
import { toggled } from "../parts/Check.tsx";
import { Duration } from "../parts/Duration.tsx";
import { Status } from "../parts/Status.tsx";
import type { Column } from "../parts/Table.tsx";
import { Time } from "../parts/Time.tsx";
import { address, setQuery } from "../route.ts";
import { strings } from "../strings.ts";
import { compared, type Field, inFilter, tag } from "./choice.ts";
import { type Nested, PARENT } from "./nest.ts";

const words = strings.column;

interface Wishes {
  experimentNames: Map<string, string>;
  chosen: Field[];
  /** Beside an open run there is room for little. */
  isNarrow: boolean;
  /** What a row's link keeps: the filter, the columns. */
  query: URLSearchParams;
  closed: ReadonlySet<string>;
  toggle: (runId: string) => void;
}

export function columnsFor(wishes: Wishes): Column<Nested>[] {
  const { experimentNames, chosen, isNarrow } = wishes;
  const picked = compared(wishes.query);
  const pick: Column<Nested> = {
    id: "pick",
    header: "",
    size: 34,
    cell: ({ run }) => <Pick run={run} picked={picked} />,
  };
  const name: Column<Nested> = {
    id: "name",
    header: words.name,
    size: isNarrow ? 140 : 200,
    order: "attributes.run_name",
    cell: (row) => <Name row={row} wishes={wishes} />,
  };
  const status: Column<Nested> = {
    id: "status",
    header: words.status,
    size: isNarrow ? 100 : 110,
    order: "attributes.status",
    cell: ({ run }) => <Status of={run.info.status} />,
  };
  const started: Column<Nested> = {
    id: "started",
    header: words.started,
    size: isNarrow ? 78 : 96,
    order: "attributes.start_time",
    cell: ({ run }) => <Time at={run.info.start_time} />,
  };
  const first = chosen.slice(0, 1).map(fieldColumn);
  if (isNarrow) return [pick, name, status, started, ...first];
  const experiment: Column<Nested> = {
    id: "experiment",
    header: words.experiment,
    size: 120,
    cell: ({ run }) => experimentNames.get(run.info.experiment_id) ?? run.info.experiment_id,
  };
  const duration: Column<Nested> = {
    id: "duration",
    header: words.duration,
    size: 104,
    order: "attributes.duration",
    cell: ({ run: { info } }) => (
      <Duration from={info.start_time} to={info.status === "RUNNING" ? null : info.end_time} />
    ),
  };
  return [pick, name, status, experiment, started, duration, ...chosen.map(fieldColumn)];
}

function Pick({ run: { info }, picked }: { run: Run; picked: string[] }) {
  return (
    <input
      type="checkbox"
      data-testid="pick"
      aria-label={strings.compareRun(info.run_name)}
      checked={picked.includes(info.run_id)}
      onClick={(event) => event.stopPropagation()}
      onChange={() => setQuery({ compare: toggled(picked, info.run_id).join(",") })}
    />
  );
}

function Name({ row: { run, depth, children }, wishes }: { row: Nested; wishes: Wishes }) {
  const { run_id, run_name } = run.info;
  const isOpen = !wishes.closed.has(run_id);
  return (
    <span className="run-name" style={{ paddingLeft: depth * 16 }}>
      {children > 0 && (
        <button
          type="button"
          className="twist"
          aria-expanded={isOpen}
          aria-label={strings.childrenOf(children, run_name)}
          onClick={(event) => {
            event.stopPropagation();
            wishes.toggle(run_id);
          }}
        >
          {isOpen ? "▾" : "▸"}
        </button>
      )}
      {depth === 0 && tag(run, PARENT) && (
        <span className="hint" title={strings.isChild}>
          ↳
        </span>
      )}
      <a href={address("runs", run_id, wishes.query)}>{run_name || run_id}</a>
    </span>
  );
}

function fieldColumn(field: Field): Column<Nested> {
  const key = field.slice(2);
  const order = inFilter(field);
  if (field.startsWith("m.")) {
    const value = ({ data }: Run) => data.metrics?.find((one) => one.key === key)?.value;
    return { id: field, header: key, size: 92, isNumber: true, order, cell: ({ run }) => figure(value(run)) };
  }
  if (field.startsWith("t.")) return { id: field, header: key, size: 110, order, cell: ({ run }) => tag(run, key) || "–" };
  const cell = ({ run }: Nested) => run.data.params?.find((one) => one.key === key)?.value ?? "–";
  return { id: field, header: key, size: 96, order, cell };
}
