import { useState } from "react";
import { Check, toggled } from "../parts/Check.tsx";
import { Menu } from "../parts/Menu.tsx";
import { setQuery } from "../route.ts";
import { strings } from "../strings.ts";
import type { Field, Fields } from "./choice.ts";

const MANY = 12;

/** Which metrics, params and tags are columns. */
export function ColumnPicker({ all, chosen }: { all: Fields; chosen: Field[] }) {
  const [text, setText] = useState("");
  const count = all.metrics.length + all.params.length + all.tags.length;
  const list = (title: string, some: Field[]) => (
    <fieldset>
      <legend>{title}</legend>
      {some.length === 0 && <p className="hint">{strings.nothingYet}</p>}
      {some
        .filter((field) => field.toLowerCase().includes(text.toLowerCase(), 2))
        .map((field) => (
          <Check
            key={field}
            label={field.slice(2)}
            isOn={chosen.includes(field)}
            toggle={() => setQuery({ columns: JSON.stringify(toggled(chosen, field)) })}
          />
        ))}
    </fieldset>
  );
  return (
    <Menu title={strings.columns}>
      {count > MANY && (
        <input
          type="search"
          aria-label={strings.find}
          placeholder={strings.find}
          value={text}
          onChange={(event) => setText(event.target.value)}
        />
      )}
      {list(strings.metrics, all.metrics)}
      {list(strings.params, all.params)}
      {list(strings.tags, all.tags)}
    </Menu>
  );
}
