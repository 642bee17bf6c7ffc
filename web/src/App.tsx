import { reachable } from "./api/http.ts";
import { access } from "./api/token.ts";
import { useCell } from "./lib/cell.ts";
import { TokenForm } from "./parts/TokenForm.tsx";
import { address, useRoute } from "./route.ts";
import { strings } from "./strings.ts";
import { TABS } from "./tabs/index.ts";

/** The frame around every tab: the name, the tabs, the banner, and the question for a token. */
export function App() {
  const route = useRoute();
  const isReachable = useCell(reachable);
  const isRefused = useCell(access) === "refused";
  const current = TABS.find((tab) => tab.name === route.tab) ?? TABS[0];
  return (
    <div className="app">
      <header className="top">
        <strong className="brand">{strings.product}</strong>
        <nav aria-label={strings.pages}>
          {TABS.map((tab) => (
            <a
              key={tab.name}
              href={address(tab.name)}
              aria-current={tab.name === current.name ? "page" : undefined}
            >
              {tab.title}
            </a>
          ))}
        </nav>
      </header>
      {!isReachable && (
        <p className="banner" role="status" data-testid="banner">
          {strings.serverGone}
        </p>
      )}
      <main>{isRefused ? <TokenForm /> : <current.Page route={route} />}</main>
    </div>
  );
}
