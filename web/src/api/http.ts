import { Cell } from "../lib/cell.ts";
import { strings } from "../strings.ts";
import { access, token } from "./token.ts";

/** The server answered, and said no. `message` is its sentence to the person. */
export class Failure extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** Nobody answered, or only a proxy did. Trying again may succeed. */
export class Unreachable extends Error {}

export const reachable = new Cell(true);

// The page lies at the server's root or below a proxy's path; the API lies beside it.
const root = new URL(".", location.href);

type Query = Record<string, string | number>;

/** Any request, with the token, as a checked response. */
export async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  if (token()) headers.set("Authorization", `Bearer ${token()}`);
  let response: Response;
  try {
    response = await fetch(new URL(path, root), { ...init, headers, credentials: "same-origin" });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    reachable.set(false);
    throw new Unreachable(strings.serverGone);
  }
  if (response.status === 502 || response.status === 504) {
    reachable.set(false);
    throw new Unreachable(strings.serverGone);
  }
  reachable.set(true);
  if (response.status === 401) access.set("refused");
  if (!response.ok) throw new Failure(response.status, await sentence(response));
  return response;
}

/** `signal` cancels: TanStack Query passes one to every query. */
export async function get<T>(path: string, query: Query, signal?: AbortSignal): Promise<T> {
  const text = new URLSearchParams(Object.entries(query).map(([key, value]) => [key, String(value)]));
  const response = await ask(text.size ? `${path}?${text}` : path, { signal });
  return (await response.json()) as T;
}

export async function post<T>(path: string, body: unknown, signal?: AbortSignal): Promise<T> {
  const headers = { "Content-Type": "application/json" };
  const response = await ask(path, { method: "POST", body: JSON.stringify(body), headers, signal });
  return (await response.json()) as T;
}

async function sentence(response: Response): Promise<string> {
  try {
    const body = (await response.json()) as { message?: string };
    if (body.message) return body.message;
  } catch {
    // Not our server's JSON: the status is all there is to say.
  }
  return strings.httpError(response.status);
}
