import type uPlot from "uplot";
import { figure } from "../lib/format.ts";
import { type Axis, PER_SERIES } from "../lib/series.ts";
import { strings } from "../strings.ts";
import type { Palette } from "./palette.ts";

interface Wishes {
  labels: string[];
  axis: Axis;
  log: boolean;
  width: number;
  palette: Palette;
  rewinds: () => number[];
  drawn: (plot: uPlot) => void;
  /** Somebody has drawn a window, from one x to another. */
  zoomed: (from: number, to: number) => void;
}

const HEIGHT = 196;
const FONT = "11px system-ui, sans-serif";

/** A chart's wishes in uPlot's words. */
export function options(wishes: Wishes): uPlot.Options {
  const { palette } = wishes;
  const colour = (i: number) => palette.series[i % palette.series.length] as string;
  const axis = {
    stroke: palette.text,
    font: FONT,
    grid: { stroke: palette.grid, width: 1 },
    ticks: { stroke: palette.grid, width: 1, size: 4 },
  };
  return {
    width: wishes.width,
    height: HEIGHT,
    padding: [8, 10, 0, 0],
    scales: { x: { time: false }, y: wishes.log ? { distr: 3 } : {} },
    axes: [
      { ...axis, size: 26, gap: 2, space: 60 },
      {
        ...axis,
        size: 58,
        gap: 4,
        values: (_plot, splits) => splits.map((v) => (v === null ? "" : figure(v))),
      },
    ],
    series: [
      { label: strings.axis[wishes.axis], value: (_plot, x) => (x === null ? "–" : figure(x)) },
      ...wishes.labels.flatMap((label, i) => [
        {
          label,
          stroke: colour(i),
          width: 1.5,
          points: { size: 5 },
          value: (plot: uPlot, y: number | null, series: number, at: number | null) =>
            withBounds(plot, y, series, at),
        },
        bound(`${label} ≥`),
        bound(`${label} ≤`),
      ]),
    ],
    bands: wishes.labels.map((_, i) => {
      const first = 1 + i * PER_SERIES;
      return { series: [first + 2, first + 1] as [number, number], fill: `${colour(i)}38` };
    }),
    cursor: {
      // Only where the pointer is goes to the other charts: their zoom stays their own.
      sync: { key: "run", filters: { pub: (type) => type === "mousemove" || type === "mouseleave" } },
      drag: { x: true, y: false, dist: 4 },
      dataIdx: nearest,
      y: false,
    },
    legend: { live: true },
    hooks: {
      draw: [(plot) => marks(plot, wishes), wishes.drawn],
      setSelect: [(plot) => plot.select.width > 0 && wishes.zoomed(...window(plot))],
    },
  };
}

/** The least or the greatest values: they bound the band around a curve, and are themselves not drawn. */
function bound(label: string): uPlot.Series {
  return { label, width: 0, points: { show: false }, class: "bound" };
}

/** A mean with what lies around it, where it is the mean of several points. */
function withBounds(plot: uPlot, y: number | null, series: number, at: number | null): string {
  if (at === null || y === null) return figure(y);
  const [least, most] = [plot.data[series + 1]?.[at], plot.data[series + 2]?.[at]];
  return least == null || most == null || least === most ? figure(y) : `${figure(y)} (${figure(least)} – ${figure(most)})`;
}

function window({ select, posToVal }: uPlot): [number, number] {
  return [posToVal(select.left, "x"), posToVal(select.left + select.width, "x")];
}

/** A sparse curve has no value at most of the other curve's steps: show its nearest one. */
function nearest(plot: uPlot, series: number, at: number): number {
  const column = plot.data[series];
  if (series === 0 || !column) return at;
  for (let away = 0; away < column.length; away++) {
    if (column[at - away] != null) return at - away;
    if (column[at + away] != null) return at + away;
  }
  return at;
}

/** A thin line where the run went on from a checkpoint. */
function marks(plot: uPlot, wishes: Wishes): void {
  if (wishes.axis !== "step") return;
  const { left, top, width, height } = plot.bbox;
  const context = plot.ctx;
  context.save();
  context.strokeStyle = wishes.palette.mark;
  context.lineWidth = devicePixelRatio;
  context.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
  for (const step of wishes.rewinds()) {
    const x = Math.round(plot.valToPos(step, "x", true));
    if (x < left || x > left + width) continue;
    context.beginPath();
    context.moveTo(x, top);
    context.lineTo(x, top + height);
    context.stroke();
  }
  context.restore();
}
