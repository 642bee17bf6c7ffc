import { useLineage } from "../api/queries.ts";
import type { LineageNode } from "../api/types.ts";
import { ErrorLine } from "../parts/ErrorLine.tsx";
import { address, type Route, setQuery } from "../route.ts";
import { Fact } from "../runs/RunHeader.tsx";
import { strings } from "../strings.ts";
import { GraphView, pageOf } from "./GraphView.tsx";

const words = strings.lineageOf;
const SIDES = ["both", "up", "down"] as const;

/** One thing with all that it was made of and all that came of it. */
export function LineageView({ route: { id, query } }: { route: Route }) {
  const wanted = query.get("side");
  const side = SIDES.find((one) => one === wanted) ?? "both";
  const { data: graph, error } = useLineage(id, side);
  const root = graph?.nodes.find(({ key }) => key === graph.root);
  return (
    <article className="run" data-testid="lineage-view">
      <ErrorLine message={error?.message} />
      {!graph && !error && <p className="empty">{strings.loading}</p>}
      {graph && root && (
        <>
          <Head node={root} />
          <fieldset className="row sides">
            <legend className="unseen">{words.sides}</legend>
            {SIDES.map((one) => (
              <label key={one}>
                <input
                  type="radio"
                  name="side"
                  checked={one === side}
                  onChange={() => setQuery({ side: one === "both" ? "" : one })}
                />
                {words.side[one]}
              </label>
            ))}
          </fieldset>
          <GraphView graph={graph} />
        </>
      )}
    </article>
  );
}

function Head({ node }: { node: LineageNode }) {
  const page = pageOf(node);
  return (
    <header className="run-head">
      <p className="hint">
        <a href={address("lineage")}>{strings.lineage}</a>
      </p>
      <h1>{page === address("lineage", node.key) ? node.title : <a href={page}>{node.title}</a>}</h1>
      <dl>
        <Fact name={words.kindOf}>{words.kind[node.kind] ?? node.kind}</Fact>
        <Fact name={strings.model.id}>{node.id}</Fact>
        {node.where && <Fact name={words.where}>{node.where}</Fact>}
        {Object.entries(node.facts ?? {})
          .filter(([, value]) => value !== node.id)
          .map(([name, value]) => (
            <Fact key={name} name={name}>
              {value}
            </Fact>
          ))}
      </dl>
    </header>
  );
}
