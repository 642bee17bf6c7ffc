import { useMemo, useSyncExternalStore } from "react";

/** Where the page is: `#/runs/<id>?filter=…`. All of it lies in the address, so that a link can be shared. */
export interface Route {
  tab: string;
  id: string;
  query: URLSearchParams;
}

export function parse(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [tab = "", id = ""] = path.split("/").map(decodeURIComponent);
  return { tab: tab || "runs", id, query: new URLSearchParams(query) };
}

export function address(tab: string, id = "", query = new URLSearchParams()): string {
  const path = id ? `${tab}/${encodeURIComponent(id)}` : tab;
  return query.size ? `#/${path}?${query}` : `#/${path}`;
}

export function go(to: string): void {
  location.hash = to;
}

/** Changes one word of the query and leaves no entry in the history, or Back would step through every letter typed. */
export function setQuery(key: string, value: string): void {
  const { tab, id, query } = parse(location.hash);
  if (value) query.set(key, value);
  else query.delete(key);
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
