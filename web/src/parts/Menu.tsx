import { type ReactNode, useEffect, useRef } from "react";

/** A button that opens a small panel. `details` brings the keyboard; closing on a click elsewhere is ours. */
export function Menu({ title, children }: { title: string; children: ReactNode }) {
  const details = useRef<HTMLDetailsElement>(null);
  useEffect(() => {
    const close = (event: Event) => {
      const outside = event instanceof KeyboardEvent ? event.key === "Escape" : !inside(event);
      if (outside && details.current) details.current.open = false;
    };
    const inside = (event: Event) => details.current?.contains(event.target as Node);
    document.addEventListener("pointerdown", close);
    document.addEventListener("keydown", close);
    return () => {
      document.removeEventListener("pointerdown", close);
      document.removeEventListener("keydown", close);
    };
  }, []);
  return (
    <details className="menu" ref={details}>
      <summary>{title}</summary>
      <div className="panel">{children}</div>
    </details>
  );
}
