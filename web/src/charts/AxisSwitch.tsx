import type { Axis } from "../lib/series.ts";
import { strings } from "../strings.ts";

/** Whether the horizontal axis counts steps or time. */
export function AxisSwitch({ axis, choose }: { axis: Axis; choose: (axis: Axis) => void }) {
  return (
    <fieldset className="switch" aria-label={strings.horizontal}>
      {(["step", "time"] as const).map((one) => (
        <label key={one}>
          <input type="radio" name="axis" checked={axis === one} onChange={() => choose(one)} />
          <span>{strings.axisShort[one]}</span>
        </label>
      ))}
    </fieldset>
  );
}
