import { useMemo, useSyncExternalStore } from "react";

/** Where the page is: `#/runs/<id>?filter=…`. All of it lies in the address, so that a link can be shared. */
export interface Route {
  tab: string;
  id: string;
  query: URLSearchParams;
}

export function parse(hash: string): Route {
  const [path = "", text = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const words = path.split("/").filter(Boolean).map(decode);
  const query = new URLSearchParams(text);
  if (words[0] === "experiments") return printedByMlflow(words, query);
  return { tab: words[0] || "runs", id: words[1] ?? "", query };
}

/** The addresses that mlflow prints: `experiments/<id>`, and `/runs/<id>` or `/models/<id>` after it. */
function printedByMlflow([, experiment = "", kind, id = ""]: string[], query: URLSearchParams): Route {
  if (kind === "models") return { tab: "models", id, query: new URLSearchParams() };
  // What else mlflow's own page has in its addresses means nothing here.
  const kept = query.has("experiments") ? query : new URLSearchParams({ experiments: experiment });
  return { tab: "runs", id: kind === "runs" ? id : "", query: kept };
}

function decode(word: string): string {
  try {
    return decodeURIComponent(word);
  } catch {
    return word;
  }
}

export function address(tab: string, id = "", query = new URLSearchParams()): string {
  const path = id ? `${tab}/${encodeURIComponent(id)}` : tab;
  return query.size ? `#/${path}?${query}` : `#/${path}`;
}

export function go(to: string): void {
  location.hash = to;
}

/** Changes words of the query and leaves no entry in the history, or Back would step through every letter typed. */
export function setQuery(changes: Record<string, string>): void {
  const { tab, id, query } = parse(location.hash);
  for (const [key, value] of Object.entries(changes)) {
    if (value) query.set(key, value);
    else query.delete(key);
  }
  history.replaceState(null, "", address(tab, id, query));
  // replaceState tells nobody.
  window.dispatchEvent(new HashChangeEvent("hashchange"));
}

function subscribe(listener: () => void): () => void {
  window.addEventListener("hashchange", listener);
  return () => window.removeEventListener("hashchange", listener);
}

export function useRoute(): Route {
  const hash = useSyncExternalStore(subscribe, () => location.hash);
  return useMemo(() => parse(hash), [hash]);
}
