import type { LoggedModel } from "../api/types.ts";

/** A logged model's status without what MLflow puts before it, in small letters. */
export function statusOf({ info }: LoggedModel): string {
  return String(info.status).replace(/^LOGGED_MODEL_/, "").replaceAll("_", " ").toLowerCase();
}
