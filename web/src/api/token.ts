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
 * A link that opens a new tab, such as those that mlflow prints, carries no token: another tab of this browser that shows
 * the same server may have one. Resolves when one has answered, or after a moment without an answer.
 */
export function askOtherTabs(): Promise<void> {
  const channel = new BroadcastChannel(`${KEY} ${new URL(".", location.href).pathname}`);
  return new Promise((resolve) => {
    channel.addEventListener("message", ({ data }: MessageEvent<{ ask?: true; token?: string }>) => {
      if (data.ask && token()) channel.postMessage({ token: token() });
      if (data.token && !token()) keepToken(data.token);
      if (token()) resolve();
    });
    if (token()) return resolve();
    channel.postMessage({ ask: true });
    setTimeout(resolve, 100);
  });
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
