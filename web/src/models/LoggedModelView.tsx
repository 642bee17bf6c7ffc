import { useLoggedModel } from "../api/queries.ts";
import type { LoggedModel } from "../api/types.ts";
import { figure } from "../lib/format.ts";
import { LineageSection } from "../lineage/LineageSection.tsx";
import { Copy } from "../parts/Copy.tsx";
import { ErrorLine } from "../parts/ErrorLine.tsx";
import { Time } from "../parts/Time.tsx";
import { address } from "../route.ts";
import { Artifacts } from "../runs/Artifacts.tsx";
import { statusOf } from "../runs/logged.ts";
import { Pairs, Tags } from "../runs/Pairs.tsx";
import { Fact } from "../runs/RunHeader.tsx";
import { strings } from "../strings.ts";

const words = strings.model;

/** A model that a run logged: what it is, what was measured of it, and its files. */
export function LoggedModelView({ id }: { id: string }) {
  const { data: model, error } = useLoggedModel(id);
  return (
    <article className="run" data-testid="logged-model">
      <ErrorLine message={error?.message} />
      {!model && !error && <p className="empty">{strings.loading}</p>}
      {model && <Whole model={model} />}
    </article>
  );
}

function Whole({ model }: { model: LoggedModel }) {
  const { info, data } = model;
  const metrics = data?.metrics?.map(({ key, value }) => ({ key, value: figure(value) }));
  return (
    <>
      <header className="run-head">
        <p className="hint">
          <a href={address("models")}>{strings.tabs.models}</a>
        </p>
        <h1>{info.name || info.model_id}</h1>
        <dl>
          <Fact name={words.status}>{statusOf(model)}</Fact>
          {info.model_type && <Fact name={words.type}>{info.model_type}</Fact>}
          <Fact name={words.created}>
            <Time at={info.creation_timestamp_ms} />
          </Fact>
          {info.source_run_id && (
            <Fact name={words.run}>
              <a href={address("runs", info.source_run_id)}>{info.source_run_id.slice(0, 8)}</a>
            </Fact>
          )}
          <Fact name={words.id}>
            <Copy text={info.model_id} />
          </Fact>
        </dl>
      </header>
      <div className="columns">
        {metrics && <Pairs title={strings.metrics} pairs={metrics} />}
        <Pairs title={strings.params} pairs={data?.params ?? []} />
        <Tags tags={info.tags ?? []} />
      </div>
      <LineageSection of={`model:${info.model_id}`} />
      <Artifacts place={{ root: info.artifact_uri }} empty={strings.noFiles} />
    </>
  );
}
