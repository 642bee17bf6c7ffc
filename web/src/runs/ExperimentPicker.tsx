import { useState } from "react";
import type { Experiment } from "../api/types.ts";
import { Check, toggled } from "../parts/Check.tsx";
import { Menu } from "../parts/Menu.tsx";
import { setQuery } from "../route.ts";
import { strings } from "../strings.ts";

const MANY = 12;
/** More lines than anybody reads; the box above them finds the others. */
const SHOWN = 100;

/** None ticked means all of them. */
export function ExperimentPicker({ all, chosen }: { all: Experiment[]; chosen: string[] }) {
  const [text, setText] = useState("");
  const only = chosen.length === 1 ? all.find((one) => one.experiment_id === chosen[0])?.name : undefined;
  const title =
    chosen.length === 0 ? strings.allExperiments : (only ?? strings.someExperiments(chosen.length));
  const found = all.filter((one) => one.name.toLowerCase().includes(text.toLowerCase()));
  return (
    <Menu title={title}>
      {all.length > MANY && (
        <input
          type="search"
          aria-label={strings.find}
          placeholder={strings.find}
          value={text}
          onChange={(event) => setText(event.target.value)}
        />
      )}
      <fieldset aria-label={strings.experiments}>
        <Check
          label={strings.allExperiments}
          isOn={chosen.length === 0}
          toggle={() => setQuery({ experiments: "" })}
        />
        {found.slice(0, SHOWN).map(({ experiment_id, name }) => (
          <Check
            key={experiment_id}
            label={name}
            isOn={chosen.includes(experiment_id)}
            toggle={() => setQuery({ experiments: toggled(chosen, experiment_id).join(",") })}
          />
        ))}
        {found.length > SHOWN && <p className="hint">{strings.andMore(found.length - SHOWN)}</p>}
      </fieldset>
    </Menu>
  );
}
