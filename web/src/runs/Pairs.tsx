import type { Pair } from "../api/types.ts";
import { strings } from "../strings.ts";

/** Params or tags. */
export function Pairs({ title, pairs }: { title: string; pairs: Pair[] }) {
  return (
    <section aria-label={title}>
      <h2>{title}</h2>
      {pairs.length === 0 && <p className="empty">{strings.none}</p>}
      {pairs.length > 0 && (
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
      )}
    </section>
  );
}
