import { useState } from "react";
import { strings } from "../strings.ts";

/** A text that one click puts on the clipboard. */
export function Copy({ text }: { text: string }) {
  const [isCopied, setCopied] = useState(false);
  async function copy() {
    // Over plain http from another host browsers offer no clipboard; then the text is there to be selected.
    await navigator.clipboard?.writeText(text);
    setCopied(Boolean(navigator.clipboard));
    setTimeout(() => setCopied(false), 1_500);
  }
  return (
    <span className="copy">
      <code>{text}</code>
      <button type="button" className="quiet" onClick={copy} aria-label={`${strings.copy} ${text}`}>
        {isCopied ? strings.copied : strings.copy}
      </button>
    </span>
  );
}
