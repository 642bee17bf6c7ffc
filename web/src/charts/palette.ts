import { Cell } from "../lib/cell.ts";

export interface Palette {
  text: string;
  grid: string;
  mark: string;
  series: string[];
}

/** The colours of style.css for a canvas, which cannot read them by itself nor follow the colour scheme. */
export const palette = new Cell(read());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => palette.set(read()));

function read(): Palette {
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string) => style.getPropertyValue(name).trim();
  const series = [1, 2, 3, 4, 5, 6].map((n) => colour(`--series-${n}`));
  return { text: colour("--text-dim"), grid: colour("--line-soft"), mark: colour("--mark"), series };
}
