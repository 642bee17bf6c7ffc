import { useMemo } from "react";
import type { LineageEdge, LineageGraph, LineageNode } from "../api/types.ts";
import { Time } from "../parts/Time.tsx";
import { address } from "../route.ts";
import { strings } from "../strings.ts";
import { HEIGHT, layout, type Placed, WIDTH } from "./layout.ts";

const words = strings.lineageOf;

/** Where a thing has its page; what has none is shown with its own lineage. */
export function pageOf({ kind, id, key }: LineageNode): string {
  if (kind === "run") return address("runs", id);
  if (kind === "model") return id.startsWith("runs:/") ? address("runs", id.split("/")[1]) : address("models", id);
  if (kind === "version") return address("models", id.slice(0, id.lastIndexOf("/")));
  return address("lineage", key);
}

/** The graph from left to right, and below it the same in words. */
export function GraphView({ graph }: { graph: LineageGraph }) {
  const { placed, width, height } = useMemo(() => layout(graph.nodes, graph.edges), [graph]);
  const at = new Map(placed.map((one) => [one.node.key, one]));
  return (
    <>
      <div className="graph" data-testid="lineage" data-nodes={graph.nodes.length}>
        <div style={{ width, height, position: "relative" }}>
          <svg width={width} height={height} aria-hidden="true">
            {graph.edges.map((edge) => (
              <Arrow key={edge.source + edge.target + edge.verb} from={at.get(edge.source)} to={at.get(edge.target)} />
            ))}
          </svg>
          {placed.map((one) => (
            <Box key={one.node.key} placed={one} isHere={one.node.key === graph.root} />
          ))}
        </div>
      </div>
      {graph.truncated && <p className="hint">{words.truncated(graph.nodes.length)}</p>}
      <details>
        <summary>{words.asText}</summary>
        <ul className="sentences" data-testid="lineage-text">
          {graph.edges.map((edge) => (
            <li key={edge.source + edge.target + edge.verb}>
              <Sentence edge={edge} source={at.get(edge.source)?.node} target={at.get(edge.target)?.node} />
            </li>
          ))}
        </ul>
      </details>
    </>
  );
}

function Box({ placed: { node, x, y }, isHere }: { placed: Placed; isHere: boolean }) {
  const isGone = node.state === "deleted" || node.state === "gone";
  return (
    <a
      className={`box${isHere ? " here" : ""}${isGone ? " none" : ""}`}
      style={{ position: "absolute", left: x, top: y, width: WIDTH, height: HEIGHT }}
      href={pageOf(node)}
      title={[node.id, node.where, ...Object.entries(node.facts ?? {}).map(([name, value]) => `${name}: ${value}`)]
        .filter(Boolean)
        .join("\n")}
      aria-current={isHere ? "true" : undefined}
      data-kind={node.kind}
      data-key={node.key}
    >
      <span className="hint">
        {words.kind[node.kind] ?? node.kind}
        {node.state && ` · ${stateOf(node)}`}
      </span>
      <b>{node.title}</b>
      <span className="hint">{node.time ? <Time at={node.time} /> : node.id}</span>
    </a>
  );
}

function stateOf({ state = "" }: LineageNode): string {
  return words.state[state as keyof typeof words.state] ?? strings.status[state as keyof typeof strings.status] ?? state;
}

function Arrow({ from, to }: { from?: Placed; to?: Placed }) {
  if (!from || !to) return null;
  const [x1, y1] = [from.x + WIDTH, from.y + HEIGHT / 2];
  const [x2, y2] = [to.x, to.y + HEIGHT / 2];
  const bend = Math.max(20, Math.abs(x2 - x1) / 2);
  return (
    <>
      <path d={`M${x1},${y1} C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2 - 5},${y2}`} />
      <path className="head" d={`M${x2},${y2} l-8,-4 v8 z`} />
    </>
  );
}

function Sentence({ edge, source, target }: { edge: LineageEdge; source?: LineageNode; target?: LineageNode }) {
  if (!source || !target) return null;
  return (
    <>
      {words.kind[source.kind]} <a href={pageOf(source)}>{source.title}</a> {edge.verb} {words.kind[target.kind]}{" "}
      <a href={pageOf(target)}>{target.title}</a>
    </>
  );
}
