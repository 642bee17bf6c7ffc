import type { DatasetInput, Run } from "../api/types.ts";
import { strings } from "../strings.ts";

const words = strings.dataset;
const CONTEXT = "mlflow.data.context";

/** The data that a run read. */
export function Datasets({ run }: { run: Run }) {
  const inputs = run.inputs?.dataset_inputs ?? [];
  if (inputs.length === 0) return null;
  return (
    <section aria-label={strings.datasets} data-testid="datasets">
      <h2>{strings.datasets}</h2>
      <div className="columns">
        {inputs.map((input) => (
          <One key={input.dataset.name + input.dataset.digest} input={input} />
        ))}
      </div>
    </section>
  );
}

function One({ input: { dataset, tags = [] } }: { input: DatasetInput }) {
  const context = tags.find((tag) => tag.key === CONTEXT)?.value;
  return (
    <div className="dataset">
      <b>{dataset.name}</b> {context && <span className="badge">{context}</span>}
      <p className="hint">
        {words.digest} <code>{dataset.digest}</code>
        {dataset.source_type && ` · ${dataset.source_type}`}
      </p>
      <Folded title={words.source} text={dataset.source} />
      <Folded title={words.schema} text={dataset.schema} />
      <Folded title={words.profile} text={dataset.profile} />
    </div>
  );
}

/** JSON in a text, laid out. */
function Folded({ title, text }: { title: string; text: string | undefined }) {
  if (!text) return null;
  return (
    <details>
      <summary>{title}</summary>
      <pre>{laidOut(text)}</pre>
    </details>
  );
}

function laidOut(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
