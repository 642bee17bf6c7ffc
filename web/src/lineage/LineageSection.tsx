import { useLineage } from "../api/queries.ts";
import { ErrorLine } from "../parts/ErrorLine.tsx";
import { address } from "../route.ts";
import { strings } from "../strings.ts";
import { GraphView } from "./GraphView.tsx";

/** What a thing was made of and what came of it, as a part of its page. */
export function LineageSection({ of }: { of: string }) {
  const { data: graph, error } = useLineage(of, "both");
  return (
    <section aria-label={strings.lineage}>
      <h2>
        <a href={address("lineage", of)}>{strings.lineage}</a>
      </h2>
      <ErrorLine message={error?.message} />
      {graph && <GraphView graph={graph} />}
    </section>
  );
}
