import type { ComponentType } from "react";
import type { Route } from "../route.ts";
import { strings } from "../strings.ts";
import { Jobs } from "./Jobs.tsx";
import { Lineage } from "./Lineage.tsx";
import { Models } from "./Models.tsx";
import { Rules } from "./Rules.tsx";
import { Runs } from "./Runs.tsx";

interface Tab {
  /** The word in the address. */
  name: string;
  title: string;
  Page: ComponentType<{ route: Route }>;
}

/** To add a tab: copy Models.tsx, the shortest, and add a line here. The first is where the page opens. */
export const TABS: readonly [Tab, ...Tab[]] = [
  { name: "runs", title: strings.tabs.runs, Page: Runs },
  { name: "jobs", title: strings.tabs.jobs, Page: Jobs },
  { name: "models", title: strings.tabs.models, Page: Models },
  { name: "rules", title: strings.tabs.rules, Page: Rules },
  { name: "lineage", title: strings.tabs.lineage, Page: Lineage },
];
