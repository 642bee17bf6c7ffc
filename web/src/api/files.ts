import { ask, get } from "./http.ts";
import type { Artifact } from "./types.ts";

const SCHEME = "mlflow-artifacts:/";
const CONTENT = "api/2.0/mlflow-artifacts/artifacts";

/** Where files lie: with a run, or below an artifact root such as a logged model's. */
export type Place = { run: string } | { root: string };

/** Whether the server itself can be asked for what lies there. */
export function isReachable(place: Place): boolean {
  return "run" in place || place.root.startsWith(SCHEME);
}

/** The files in one folder, their paths from the place on; "" is the place itself. */
export async function list(place: Place, path: string, signal?: AbortSignal): Promise<Artifact[]> {
  if ("run" in place) {
    const query: Record<string, string> = path ? { run_id: place.run, path } : { run_id: place.run };
    return (await get<{ files?: Artifact[] }>("api/2.0/mlflow/artifacts/list", query, signal)).files ?? [];
  }
  const found = await get<{ files?: Artifact[] }>(CONTENT, { path: inTree(place.root, path) }, signal);
  return (found.files ?? []).map((file) => ({ ...file, path: path ? `${path}/${file.path}` : file.path }));
}

/** The first `limit` bytes of a file. */
export async function read(place: Place, path: string, limit: number, signal?: AbortSignal): Promise<Blob> {
  const response = await ask(address(place, path), { headers: { Range: `bytes=0-${limit - 1}` }, signal });
  return (await response.blob()).slice(0, limit);
}

/** A plain link could not send the token, so the file is fetched and then handed to the browser. */
export async function download(place: Place, path: string): Promise<void> {
  const response = await ask(address(place, path));
  const url = URL.createObjectURL(await response.blob());
  const link = document.createElement("a");
  link.href = url;
  link.download = nameOf(path);
  link.click();
  // Not at once: some browsers read the blob only after the click has returned.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

export function nameOf(path: string): string {
  return path.split("/").pop() ?? path;
}

function address(place: Place, path: string): string {
  if ("run" in place) return `get-artifact?${new URLSearchParams({ run_id: place.run, path })}`;
  return `${CONTENT}/${inTree(place.root, path).split("/").map(encodeURIComponent).join("/")}`;
}

function inTree(root: string, path: string): string {
  return [root.slice(SCHEME.length).replace(/^\/+/, ""), path].filter(Boolean).join("/");
}
