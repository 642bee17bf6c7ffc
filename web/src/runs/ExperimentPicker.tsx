import type { Experiment } from "../api/types.ts";
import { Check, toggled } from "../parts/Check.tsx";
import { Menu } from "../parts/Menu.tsx";
import { setQuery } from "../route.ts";
import { strings } from "../strings.ts";

/** None ticked means all of them. */
export function ExperimentPicker({ all, chosen }: { all: Experiment[]; chosen: string[] }) {
  const only = chosen.length === 1 ? all.find((one) => one.experiment_id === chosen[0])?.name : undefined;
  const title =
    chosen.length === 0 ? strings.allExperiments : (only ?? strings.someExperiments(chosen.length));
  return (
    <Menu title={title}>
      <fieldset aria-label={strings.experiments}>
        <Check
          label={strings.allExperiments}
          isOn={chosen.length === 0}
          toggle={() => setQuery("experiments", "")}
        />
        {all.map(({ experiment_id, name }) => (
          <Check
            key={experiment_id}
            label={name}
            isOn={chosen.includes(experiment_id)}
            toggle={() => setQuery("experiments", toggled(chosen, experiment_id).join(","))}
          />
        ))}
      </fieldset>
    </Menu>
  );
}
