import { Cell } from "../lib/cell.ts";

const KEY = "noria-token";

/** "refused": the server asked for a token and the one we have, if any, was not the right one. */
export const access = new Cell<"unknown" | "refused">("unknown");

export function token(): string {
  return sessionStorage.getItem(KEY) ?? "";
}

export function keepToken(value: string): void {
  sessionStorage.setItem(KEY, value);
  access.set("unknown");
}

/**
 * The command line prints an address that ends in #token=…; it is kept for this tab only and taken out of the
 * address, so that neither a bookmark nor a shared link carries it.
 */
export function takeTokenFromAddress(): void {
  const found = /^#token=([^&]+)(?:&(.*))?$/.exec(location.hash);
  if (!found?.[1]) return;
  keepToken(decodeURIComponent(found[1]));
  history.replaceState(null, "", `${location.pathname}${location.search}#${found[2] ?? "/runs"}`);
}
