import { Check, toggled } from "../parts/Check.tsx";
import { Menu } from "../parts/Menu.tsx";
import { setQuery } from "../route.ts";
import { strings } from "../strings.ts";
import type { Field, fields } from "./choice.ts";

interface Props {
  all: ReturnType<typeof fields>;
  chosen: Field[];
}

/** Which metrics and params are columns. */
export function ColumnPicker({ all, chosen }: Props) {
  const list = (title: string, some: Field[]) => (
    <fieldset>
      <legend>{title}</legend>
      {some.length === 0 && <p className="hint">{strings.nothingYet}</p>}
      {some.map((field) => (
        <Check
          key={field}
          label={field.slice(2)}
          isOn={chosen.includes(field)}
          toggle={() => setQuery("columns", JSON.stringify(toggled(chosen, field)))}
        />
      ))}
    </fieldset>
  );
  return (
    <Menu title={strings.columns}>
      {list(strings.metrics, all.metrics)}
      {list(strings.params, all.params)}
    </Menu>
  );
}

/** The columns that an address asks for; null when it says nothing that can be understood. */
export function readColumns(text: string | null): Field[] | null {
  try {
    const value: unknown = JSON.parse(text ?? "null");
    return Array.isArray(value) ? value.filter((one): one is Field => /^[mp]\../.test(String(one))) : null;
  } catch {
    return null;
  }
}
