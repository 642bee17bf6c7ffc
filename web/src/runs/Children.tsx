import { useChildren } from "../api/queries.ts";
import type { Run } from "../api/types.ts";
import { Duration } from "../parts/Duration.tsx";
import { ErrorLine } from "../parts/ErrorLine.tsx";
import { Status } from "../parts/Status.tsx";
import { address } from "../route.ts";
import { strings } from "../strings.ts";

/** The runs that were started inside of a run. */
export function Children({ run, query }: { run: Run; query: URLSearchParams }) {
  const { data: children = [], error } = useChildren(run);
  if (error) return <ErrorLine message={error.message} />;
  if (children.length === 0) return null;
  return (
    <section aria-label={strings.children} data-testid="children">
      <h2>
        {strings.children} ({children.length})
      </h2>
      <table className="pairs">
        <tbody>
          {children.map(({ info }) => (
            <tr key={info.run_id}>
              <th scope="row">
                <a href={address("runs", info.run_id, query)}>{info.run_name || info.run_id}</a>
              </th>
              <td>
                <Status of={info.status} />
              </td>
              <td>
                <Duration from={info.start_time} to={info.status === "RUNNING" ? null : info.end_time} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
