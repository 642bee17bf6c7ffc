import type { LineageEdge, LineageNode } from "../api/types.ts";

export const WIDTH = 168;
export const HEIGHT = 58;
const ACROSS = 44;
const DOWN = 14;

export interface Placed {
  node: LineageNode;
  layer: number;
  x: number;
  y: number;
}

export interface Layout {
  /** From left to right, and in a layer from top to bottom: the order in which the keyboard goes through them. */
  placed: Placed[];
  width: number;
  height: number;
}

/** Places what was made to the right of what it was made of. A circle is cut where it is noticed. */
export function layout(nodes: readonly LineageNode[], edges: readonly LineageEdge[]): Layout {
  const known = new Set(nodes.map(({ key }) => key));
  const inside = edges.filter(({ source, target }) => known.has(source) && known.has(target));
  const layers = layersOf(nodes, inside);
  const columns = ordered(nodes, inside, layers);
  const tallest = Math.max(1, ...columns.map((column) => column.length));
  const height = tallest * (HEIGHT + DOWN) - DOWN;
  const placed = columns.flatMap((column, layer) => {
    const top = (height - (column.length * (HEIGHT + DOWN) - DOWN)) / 2;
    return column.map((node, row) => ({
      node,
      layer,
      x: layer * (WIDTH + ACROSS),
      y: top + row * (HEIGHT + DOWN),
    }));
  });
  return { placed, width: columns.length * (WIDTH + ACROSS) - ACROSS, height };
}

/** How many edges lead to each node on the longest way, and as near as may be to what comes of it. */
function layersOf(nodes: readonly LineageNode[], edges: readonly LineageEdge[]): Map<string, number> {
  const before = grouped(edges, (edge) => edge.target);
  const layers = new Map<string, number>();
  const under = new Set<string>();
  const depth = (key: string): number => {
    const known = layers.get(key);
    if (known !== undefined) return known;
    if (under.has(key)) return -1;
    under.add(key);
    const found = Math.max(-1, ...(before.get(key) ?? []).map(({ source }) => depth(source))) + 1;
    under.delete(key);
    layers.set(key, found);
    return found;
  };
  for (const { key } of nodes) depth(key);
  const after = grouped(edges, (edge) => edge.source);
  for (const { key } of nodes) {
    // What nothing leads to would all stand at the left end, far from what it is for.
    const next = (after.get(key) ?? []).map(({ target }) => layers.get(target) ?? 0);
    if (!before.has(key) && next.length > 0) layers.set(key, Math.max(0, Math.min(...next) - 1));
  }
  return layers;
}

function grouped(edges: readonly LineageEdge[], by: (edge: LineageEdge) => string): Map<string, LineageEdge[]> {
  const found = new Map<string, LineageEdge[]>();
  for (const edge of edges) found.set(by(edge), [...(found.get(by(edge)) ?? []), edge]);
  return found;
}

/** The nodes of each layer, each beside the mean of its neighbours: this uncrosses most edges in a few sweeps. */
function ordered(
  nodes: readonly LineageNode[],
  edges: readonly LineageEdge[],
  layers: ReadonlyMap<string, number>,
): LineageNode[][] {
  const columns: LineageNode[][] = [];
  for (const node of nodes) (columns[layers.get(node.key) ?? 0] ??= []).push(node);
  const filled = Array.from(columns, (column) => column ?? []);
  const row = new Map<string, number>();
  const remember = (column: LineageNode[]) => column.forEach((node, at) => row.set(node.key, at));
  filled.forEach(remember);
  for (let sweep = 0; sweep < 4; sweep++) {
    const forward = sweep % 2 === 0;
    const sides = grouped(edges, (edge) => (forward ? edge.target : edge.source));
    for (const column of forward ? filled : filled.toReversed()) {
      const wish = new Map(column.map(({ key }) => [key, mean(key, sides.get(key) ?? [], forward, row)]));
      column.sort((one, other) => (wish.get(one.key) ?? 0) - (wish.get(other.key) ?? 0));
      remember(column);
    }
  }
  return filled;
}

function mean(key: string, edges: readonly LineageEdge[], forward: boolean, row: ReadonlyMap<string, number>): number {
  if (edges.length === 0) return row.get(key) ?? 0;
  const total = edges.reduce((sum, { source, target }) => sum + (row.get(forward ? source : target) ?? 0), 0);
  return total / edges.length;
}
