import { type FormEvent, useEffect, useState } from "react";
import { setQuery } from "../route.ts";
import { strings } from "../strings.ts";

/** MLflow's filter text. It is sent on Enter or on leaving the box: half a filter is nearly always an error. */
export function FilterBox({ value, error }: { value: string; error: string | undefined }) {
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  function send(event?: FormEvent) {
    event?.preventDefault();
    setQuery({ filter: text.trim() });
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
      {error && <Wrong filter={value} message={error} />}
    </form>
  );
}

/** The server's sentence, and the place in the filter that it speaks of. */
function Wrong({ filter, message }: { filter: string; message: string }) {
  const column = Number(/\bcolumn (\d+)/.exec(message)?.[1] ?? 0);
  return (
    <div className="error" role="alert" data-testid="error">
      {column > 0 && (
        <code className="where">
          {filter.slice(0, column - 1)}
          <mark>{filter.slice(column - 1, column) || " "}</mark>
          {filter.slice(column)}
        </code>
      )}
      {message}
    </div>
  );
}
