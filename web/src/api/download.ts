import { ask } from "./http.ts";

const SCHEME = "mlflow-artifacts:/";

/** Only artifacts that the server itself keeps can be fetched from here. */
export function canDownload(artifactUri: string): boolean {
  return artifactUri.startsWith(SCHEME);
}

/** A plain link could not send the token, so the file is fetched and then handed to the browser. */
export async function download(artifactUri: string, path: string): Promise<void> {
  const whole = `${artifactUri.slice(SCHEME.length).replace(/^\/+/, "")}/${path}`;
  const encoded = whole.split("/").map(encodeURIComponent).join("/");
  const response = await ask(`api/2.0/mlflow-artifacts/artifacts/${encoded}`);
  const address = URL.createObjectURL(await response.blob());
  const link = document.createElement("a");
  link.href = address;
  link.download = path.split("/").pop() ?? path;
  link.click();
  // Not at once: some browsers read the blob only after the click has returned.
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
