import type { ReactNode } from "react";
import { useDeletion, useExperiments, useRun } from "../api/queries.ts";
import type { Run } from "../api/types.ts";
import { Copy } from "../parts/Copy.tsx";
import { Duration } from "../parts/Duration.tsx";
import { ErrorLine } from "../parts/ErrorLine.tsx";
import { Note } from "../parts/Note.tsx";
import { Status } from "../parts/Status.tsx";
import { Time } from "../parts/Time.tsx";
import { address } from "../route.ts";
import { strings } from "../strings.ts";
import { tag } from "./choice.ts";
import { PARENT } from "./nest.ts";

interface Props {
  run: Run;
  query: URLSearchParams;
}

export function RunHeader({ run, query }: Props) {
  const { info } = run;
  const experiment = useExperiments().data?.find((one) => one.experiment_id === info.experiment_id);
  const isOver = info.status !== "RUNNING" && info.status !== "SCHEDULED";
  const [parent, note] = [tag(run, PARENT), tag(run, "mlflow.note.content")];
  const [source, commit] = [tag(run, "mlflow.source.name"), tag(run, "mlflow.source.git.commit")];
  return (
    <header className="run-head">
      <div className="row">
        <h1>{info.run_name || info.run_id}</h1>
        <Status of={info.status} />
        <Deletion run={run} />
        <a className="close" href={address("runs", "", query)} aria-label={strings.close} title={strings.close}>
          ✕
        </a>
      </div>
      <dl>
        <Fact name={strings.experiment}>
          <a href={address("runs", "", new URLSearchParams({ experiments: info.experiment_id }))}>
            {experiment?.name ?? info.experiment_id}
          </a>
        </Fact>
        {parent && (
          <Fact name={strings.parent}>
            <Parent id={parent} query={query} />
          </Fact>
        )}
        <Fact name={strings.user}>{tag(run, "mlflow.user") || info.user_id || "–"}</Fact>
        <Fact name={strings.started}>
          <Time at={info.start_time} />
        </Fact>
        <Fact name={strings.duration}>
          <Duration from={info.start_time} to={isOver ? (info.end_time ?? info.start_time) : null} />
        </Fact>
        {source && (
          <Fact name={strings.source}>
            {source.split("/").pop()} {commit && <code title={commit}>{commit.slice(0, 7)}</code>}
          </Fact>
        )}
        <Fact name={strings.runId}>
          <Copy text={info.run_id} />
        </Fact>
      </dl>
      {note && <Note text={note} />}
    </header>
  );
}

function Parent({ id, query }: { id: string; query: URLSearchParams }) {
  const { data: run } = useRun(id);
  return <a href={address("runs", id, query)}>{run?.info.run_name || id.slice(0, 8)}</a>;
}

/** Deleting asks nothing, because it can be undone where it was done. */
function Deletion({ run: { info } }: { run: Run }) {
  const { mutate, error, isPending } = useDeletion(info.run_id);
  const isDeleted = info.lifecycle_stage === "deleted";
  return (
    <>
      {isDeleted && <span className="badge">{strings.deleted}</span>}
      <button
        type="button"
        className="quiet"
        data-testid="deletion"
        disabled={isPending}
        onClick={() => mutate(isDeleted ? "restore" : "delete")}
      >
        {isDeleted ? strings.restore : strings.remove}
      </button>
      <ErrorLine message={error?.message} />
    </>
  );
}

export function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}
