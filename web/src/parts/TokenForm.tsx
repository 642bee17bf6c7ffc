import { useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { keepToken, token } from "../api/token.ts";
import { strings } from "../strings.ts";
import { ErrorLine } from "./ErrorLine.tsx";

/** Asked when the server answers 401. */
export function TokenForm() {
  const client = useQueryClient();
  const [value, setValue] = useState("");
  function open(event: FormEvent) {
    event.preventDefault();
    // Before the tabs come back: what they show must be asked for anew, with the new token.
    client.clear();
    keepToken(value.trim());
  }
  return (
    <form className="token" data-testid="token-form" onSubmit={open}>
      <h1>{strings.tokenTitle}</h1>
      <p>
        {strings.tokenWhere} <code>{strings.tokenCommand}</code>.
      </p>
      <ErrorLine message={token() ? strings.tokenRefused : undefined} />
      <label htmlFor="token">{strings.token}</label>
      <div className="row">
        <input
          id="token"
          type="password"
          autoComplete="off"
          // It is the only thing on the page.
          autoFocus
          required
          value={value}
          onChange={(event) => setValue(event.target.value)}
        />
        <button type="submit">{strings.tokenOpen}</button>
      </div>
    </form>
  );
}
