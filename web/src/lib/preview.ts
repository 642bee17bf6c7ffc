// What can be shown of a file, told from its name and its beginning.

export type Preview =
  | { kind: "text"; text: string }
  | { kind: "table"; head: string[]; rows: string[][] }
  | { kind: "none" };

export const MOST_BYTES = 256 * 1024;
export const MOST_ROWS = 200;
const IMAGES: Record<string, string> = {
  png: "image/png",
  jpg: "image/jpeg",
  jpeg: "image/jpeg",
  gif: "image/gif",
  webp: "image/webp",
  bmp: "image/bmp",
  svg: "image/svg+xml",
};

/** The media type of an image that a browser draws; undefined for other files. */
export function imageType(path: string): string | undefined {
  return IMAGES[ending(path)];
}

/** `isWhole`: whether these are all of the file's bytes. */
export function preview(path: string, bytes: Uint8Array, isWhole: boolean): Preview {
  if (bytes.subarray(0, 4096).includes(0)) return { kind: "none" };
  const text = new TextDecoder().decode(bytes);
  const kind = ending(path);
  if (kind === "csv" || kind === "tsv") return tableOf(separated(text, kind === "csv" ? "," : "\t", isWhole));
  if (kind === "json" && isWhole) return ofJson(text);
  return { kind: "text", text };
}

/** Tables that mlflow.log_table wrote are tables; all other JSON is laid out. */
function ofJson(text: string): Preview {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { kind: "text", text };
  }
  const { columns, data } = (value ?? {}) as { columns?: unknown; data?: unknown };
  if (Array.isArray(columns) && Array.isArray(data) && data.every(Array.isArray)) {
    return tableOf([columns.map(cell), ...data.map((row: unknown[]) => row.map(cell))]);
  }
  return { kind: "text", text: JSON.stringify(value, null, 2) };
}

function cell(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}

function tableOf([head = [], ...rows]: string[][]): Preview {
  return { kind: "table", head, rows: rows.slice(0, MOST_ROWS) };
}

/** Separated values (RFC 4180): a quoted one may hold separators, line ends and doubled quotes. */
export function separated(text: string, separator: string, isWhole: boolean): string[][] {
  const rows: string[][] = [[]];
  const token = new RegExp(`"((?:[^"]|"")*)"|([^${separator}"\\n\\r]+)|(${separator})|(\\r?\\n)`, "gy");
  let value = "";
  for (const [, quoted, plain, split, end] of text.matchAll(token)) {
    if (quoted !== undefined) value += quoted.replaceAll('""', '"');
    else if (plain !== undefined) value += plain;
    if (split === undefined && end === undefined) continue;
    rows.at(-1)?.push(value);
    value = "";
    if (end !== undefined) rows.push([]);
  }
  if (value || rows.at(-1)?.length) rows.at(-1)?.push(value);
  // What was cut off in the middle, or only ends the last line, is no row.
  if (!isWhole || rows.at(-1)?.length === 0) rows.pop();
  return rows;
}

function ending(path: string): string {
  const name = path.split("/").pop() ?? "";
  return name.includes(".") ? (name.split(".").pop() ?? "").toLowerCase() : "";
}
