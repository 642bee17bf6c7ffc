import type { Pair } from "../api/types.ts";
import { strings } from "../strings.ts";

/** Params or tags. */
export function Pairs({ title, pairs }: { title: string; pairs: Pair[] }) {
  return (
    <section aria-label={title}>
      <h2>{title}</h2>
      {pairs.length === 0 ? <p className="empty">{strings.none}</p> : <PairTable pairs={pairs} />}
    </section>
  );
}

/** A run's own tags, and folded away below them those that mlflow keeps its records in. */
export function Tags({ tags }: { tags: Pair[] }) {
  const records = tags.filter(({ key }) => key.startsWith("mlflow."));
  return (
    <div>
      <Pairs title={strings.tags} pairs={tags.filter((tag) => !records.includes(tag))} />
      {records.length > 0 && (
        <details className="more">
          <summary>{strings.records(records.length)}</summary>
          <PairTable pairs={records} />
        </details>
      )}
    </div>
  );
}

function PairTable({ pairs }: { pairs: Pair[] }) {
  return (
    <table className="pairs">
      <tbody>
        {pairs
          .toSorted((a, b) => a.key.localeCompare(b.key))
          .map(({ key, value }) => (
            <tr key={key}>
              <th scope="row">{key}</th>
              <td>{value}</td>
            </tr>
          ))}
      </tbody>
    </table>
  );
}
