import { useSummaries } from "../api/queries.ts";
import type { Summary } from "../api/types.ts";
import { figure } from "../lib/format.ts";
import { isSystem } from "../lib/groups.ts";
import { ErrorLine } from "../parts/ErrorLine.tsx";
import { strings } from "../strings.ts";

const words = strings.metric;

/** Each metric in a line; those of the machine are folded away. */
export function MetricTable({ runId }: { runId: string }) {
  const { data: metrics, error } = useSummaries(runId);
  if (error) return <ErrorLine message={error.message} />;
  if (!metrics?.length) return null;
  const machine = metrics.filter(({ key }) => isSystem(key));
  const training = metrics.filter(({ key }) => !isSystem(key));
  return (
    <section aria-label={strings.metrics} data-testid="metrics">
      <h2>{strings.metrics}</h2>
      {training.length > 0 && <Lines metrics={training} />}
      {machine.length > 0 && (
        <details className="more">
          <summary>{strings.machine(machine.length)}</summary>
          <Lines metrics={machine} />
        </details>
      )}
    </section>
  );
}

function Lines({ metrics }: { metrics: Summary[] }) {
  return (
    <table className="pairs figures">
      <thead>
        <tr>
          {[words.name, words.last, words.step, words.first, words.least, words.greatest].map((word) => (
            <th key={word} scope="col">
              {word}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {metrics.map((one) => (
          <tr key={one.key}>
            <th scope="row">{one.key}</th>
            <td>{figure(one.last)}</td>
            <td>{one.step}</td>
            <td>{figure(one.first)}</td>
            <td>{figure(one.min)}</td>
            <td>{figure(one.max)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
