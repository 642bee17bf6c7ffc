import { useModels } from "../api/queries.ts";
import type { RegisteredModel } from "../api/types.ts";
import { type Column, Table } from "../parts/Table.tsx";
import { Time } from "../parts/Time.tsx";
import { address } from "../route.ts";
import { strings } from "../strings.ts";

const words = strings.model;

function latest(model: RegisteredModel) {
  return model.latest_versions?.toSorted((a, b) => Number(b.version) - Number(a.version))[0];
}

const COLUMNS: Column<RegisteredModel>[] = [
  { id: "name", header: words.name, size: 240, cell: (model) => model.name },
  { id: "version", header: words.version, size: 80, cell: (model) => latest(model)?.version },
  { id: "stage", header: words.stage, size: 110, cell: (model) => latest(model)?.current_stage },
  {
    id: "aliases",
    header: words.aliases,
    size: 220,
    cell: (model) => model.aliases?.map((one) => `${one.alias} → ${one.version}`).join(", "),
  },
  {
    id: "updated",
    header: words.updated,
    size: 120,
    cell: (model) => <Time at={model.last_updated_timestamp} />,
  },
  {
    id: "run",
    header: words.run,
    size: 90,
    cell: (model) => {
      const run = latest(model)?.run_id;
      return run && <a href={address("runs", run)}>{run.slice(0, 8)}</a>;
    },
  },
  {
    id: "description",
    header: words.description,
    size: 300,
    wraps: true,
    cell: (model) => model.description,
  },
];

export function Models() {
  const models = useModels();
  return (
    <Table
      label={strings.tabs.models}
      query={models}
      columns={COLUMNS}
      rowId={(model) => model.name}
      empty={strings.noModels}
    />
  );
}
