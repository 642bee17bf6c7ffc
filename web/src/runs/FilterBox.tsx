import { type FormEvent, useEffect, useState } from "react";
import { ErrorLine } from "../parts/ErrorLine.tsx";
import { setQuery } from "../route.ts";
import { strings } from "../strings.ts";

/** MLflow's filter text. It is sent on Enter or on leaving the box: half a filter is nearly always an error. */
export function FilterBox({ value, error }: { value: string; error: string | undefined }) {
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  function send(event?: FormEvent) {
    event?.preventDefault();
    setQuery("filter", text.trim());
  }
  return (
    <form className="filter" onSubmit={send}>
      <input
        type="search"
        data-testid="filter"
        aria-label={strings.filter}
        aria-invalid={Boolean(error)}
        placeholder={strings.filterExample}
        spellCheck={false}
        value={text}
        onChange={(event) => setText(event.target.value)}
        onBlur={() => send()}
      />
      <ErrorLine message={error} />
    </form>
  );
}
