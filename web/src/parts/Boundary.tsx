import { Component, type ReactNode } from "react";
import { strings } from "../strings.ts";
import { ErrorLine } from "./ErrorLine.tsx";

/** An error of the page itself becomes a sentence, not a white window. Only a class can catch one. */
export class Boundary extends Component<{ children: ReactNode }, { hasFailed: boolean }> {
  override state = { hasFailed: false };

  static getDerivedStateFromError() {
    return { hasFailed: true };
  }

  override render() {
    return this.state.hasFailed ? <ErrorLine message={strings.crashed} /> : this.props.children;
  }
}
