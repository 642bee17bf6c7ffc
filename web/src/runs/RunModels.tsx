import { useLoggedModel } from "../api/queries.ts";
import type { Run } from "../api/types.ts";
import { Time } from "../parts/Time.tsx";
import { address } from "../route.ts";
import { strings } from "../strings.ts";
import { statusOf } from "./logged.ts";

/** The models that a run logged, and those that it read. */
export function RunModels({ run }: { run: Run }) {
  const written = run.outputs?.model_outputs ?? [];
  const read = run.inputs?.model_inputs ?? [];
  if (written.length + read.length === 0) return null;
  return (
    <section aria-label={strings.loggedModels} data-testid="run-models">
      <h2>{strings.loggedModels}</h2>
      <table className="pairs">
        <tbody>
          {written.map(({ model_id, step }) => (
            <One key={model_id} id={model_id} how={strings.atStep(step)} />
          ))}
          {read.map(({ model_id }) => (
            <One key={model_id} id={model_id} how={strings.wasRead} />
          ))}
        </tbody>
      </table>
    </section>
  );
}

function One({ id, how }: { id: string; how: string }) {
  const { data: model } = useLoggedModel(id);
  return (
    <tr>
      <th scope="row">
        <a href={address("models", id)}>{model?.info.name ?? id}</a>
      </th>
      <td>{how}</td>
      <td>{model && statusOf(model)}</td>
      <td>{model && <Time at={model.info.creation_timestamp_ms} />}</td>
    </tr>
  );
}
