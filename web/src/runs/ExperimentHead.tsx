import type { Experiment } from "../api/types.ts";
import { Copy } from "../parts/Copy.tsx";
import { Note } from "../parts/Note.tsx";
import { strings } from "../strings.ts";

const NOTE = "mlflow.note.content";

/** What is known of the one experiment whose runs are listed. */
export function ExperimentHead({ of }: { of: Experiment }) {
  const tags = of.tags ?? [];
  const note = tags.find((one) => one.key === NOTE)?.value;
  const own = tags.filter((one) => !one.key.startsWith("mlflow."));
  return (
    <header className="experiment-head" data-testid="experiment-head">
      <div className="row">
        <h1>{of.name}</h1>
        {of.lifecycle_stage === "deleted" && <span className="badge">{strings.deleted}</span>}
        <Copy text={of.experiment_id} />
        {own.map(({ key, value }) => (
          <span key={key} className="badge">
            {key}: {value}
          </span>
        ))}
      </div>
      {note && <Note text={note} />}
    </header>
  );
}
