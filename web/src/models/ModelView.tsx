import { useModel, useVersions } from "../api/queries.ts";
import type { ModelVersion } from "../api/types.ts";
import { ErrorLine } from "../parts/ErrorLine.tsx";
import { Note } from "../parts/Note.tsx";
import { type Column, Table } from "../parts/Table.tsx";
import { Time } from "../parts/Time.tsx";
import { address } from "../route.ts";
import { strings } from "../strings.ts";

const words = strings.model;

const COLUMNS: Column<ModelVersion>[] = [
  { id: "version", header: words.one, size: 80, cell: (one) => one.version },
  { id: "stage", header: words.stage, size: 110, cell: (one) => one.current_stage },
  {
    id: "lineage",
    header: strings.lineage,
    size: 80,
    cell: (one) => <a href={address("lineage", `version:${one.name}/${one.version}`)}>{strings.open}</a>,
  },
  { id: "aliases", header: words.aliases, size: 140, cell: (one) => one.aliases.join(", ") },
  { id: "created", header: words.created, size: 110, cell: (one) => <Time at={one.creation_timestamp} /> },
  {
    id: "run",
    header: words.run,
    size: 90,
    cell: (one) => one.run_id && <a href={address("runs", one.run_id)}>{one.run_id.slice(0, 8)}</a>,
  },
  {
    id: "tags",
    header: strings.tags,
    size: 180,
    wraps: true,
    cell: (one) => one.tags?.map(({ key, value }) => `${key}: ${value}`).join(", "),
  },
  { id: "source", header: words.source, size: 300, wraps: true, cell: sourceOf },
  { id: "description", header: words.description, size: 220, wraps: true, cell: (one) => one.description },
];

function sourceOf({ source }: ModelVersion) {
  const id = /^models:\/(m-\w+)/.exec(source)?.[1];
  return id ? <a href={address("models", id)}>{source}</a> : source;
}

/** A registered model with all of its versions, the newest first. */
export function ModelView({ name }: { name: string }) {
  const { data: model, error } = useModel(name);
  const versions = useVersions(name);
  return (
    <div className="page" data-testid="model-view">
      <header>
        <p className="hint">
          <a href={address("models")}>{strings.tabs.models}</a>
        </p>
        <div className="row">
          <h1>{name}</h1>
          {model?.aliases?.map(({ alias, version }) => (
            <span key={alias} className="badge">
              {alias} → {version}
            </span>
          ))}
          {model?.tags?.map(({ key, value }) => (
            <span key={key} className="badge">
              {key}: {value}
            </span>
          ))}
        </div>
        <ErrorLine message={error?.message} />
        {model?.description && <Note text={model.description} />}
      </header>
      {!error && (
        <Table
          label={name}
          query={versions}
          columns={COLUMNS}
          rowId={(one) => one.version}
          empty={strings.noVersions}
        />
      )}
    </div>
  );
}
