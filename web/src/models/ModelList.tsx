import { useExperiments, useLoggedModels, useModels } from "../api/queries.ts";
import type { LoggedModel, RegisteredModel } from "../api/types.ts";
import { type Column, Table } from "../parts/Table.tsx";
import { Time } from "../parts/Time.tsx";
import { address } from "../route.ts";
import { statusOf } from "../runs/logged.ts";
import { strings } from "../strings.ts";

const words = strings.model;

function latest(model: RegisteredModel) {
  return model.latest_versions?.toSorted((a, b) => Number(b.version) - Number(a.version))[0];
}

function runLink(run: string | undefined) {
  return run && <a href={address("runs", run)}>{run.slice(0, 8)}</a>;
}

const REGISTERED: Column<RegisteredModel>[] = [
  {
    id: "name",
    header: words.name,
    size: 240,
    cell: (model) => <a href={address("models", model.name)}>{model.name}</a>,
  },
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
  { id: "run", header: words.run, size: 90, cell: (model) => runLink(latest(model)?.run_id) },
  {
    id: "description",
    header: words.description,
    size: 300,
    wraps: true,
    cell: (model) => model.description,
  },
];

const LOGGED: Column<LoggedModel>[] = [
  {
    id: "name",
    header: words.name,
    size: 240,
    cell: ({ info }) => <a href={address("models", info.model_id)}>{info.name || info.model_id}</a>,
  },
  { id: "status", header: words.status, size: 110, cell: statusOf },
  { id: "type", header: words.type, size: 140, cell: ({ info }) => info.model_type },
  { id: "created", header: words.created, size: 120, cell: ({ info }) => <Time at={info.creation_timestamp_ms} /> },
  { id: "run", header: words.run, size: 90, cell: ({ info }) => runLink(info.source_run_id) },
  { id: "id", header: words.id, size: 300, cell: ({ info }) => info.model_id },
];

export function ModelList() {
  const models = useModels();
  const experiments = useExperiments().data ?? [];
  const logged = useLoggedModels(experiments.map((one) => one.experiment_id));
  return (
    <div className="page">
      <Table
        label={strings.tabs.models}
        query={models}
        columns={REGISTERED}
        rowId={(model) => model.name}
        empty={strings.noModels}
      />
      {logged.data && logged.data.length > 0 && (
        <>
          <h2>{strings.loggedModels}</h2>
          <Table
            label={strings.loggedModels}
            query={logged}
            columns={LOGGED}
            rowId={(model) => model.info.model_id}
            empty=""
          />
        </>
      )}
    </div>
  );
}
