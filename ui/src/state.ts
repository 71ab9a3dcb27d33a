// The state of the page is its address, so that every view is a link.
import { useEffect, useState } from "preact/hooks";

export type View = "rows" | "groups" | "charts" | "curves" | "compare";

export interface State {
  /** The source, counted from 0. */
  s: number;
  view: View;
  /** The searched text. */
  q: string;
  /** Filters: JSON lists of column, operator and value. */
  f: string[];
  /** A column's id, with a minus before it for descending order. */
  sort: string;
  /** Rows before the page. */
  at: number;
  /** The open row, or null. */
  row: number | null;
  /** The row that it is compared with, as SOURCE.ROW, or "". */
  with: string;
  /** The source that is compared with. */
  other: number | null;
  /** The prompt that two sources are compared for. */
  key: string;
  /** Further columns that are shown. */
  show: string[];
}

const VIEWS: View[] = ["rows", "groups", "charts", "curves", "compare"];

function whole(text: string | null): number | null {
  return text !== null && /^\d{1,15}$/.test(text) ? Number(text) : null;
}

export function read(search: string): State {
  const query = new URLSearchParams(search);
  const view = query.get("view") as View;
  return {
    s: whole(query.get("s")) ?? 0,
    view: VIEWS.includes(view) ? view : "rows",
    q: query.get("q") ?? "",
    f: query.getAll("f"),
    sort: query.get("sort") ?? "",
    at: whole(query.get("at")) ?? 0,
    row: whole(query.get("row")),
    with: query.get("with") ?? "",
    other: whole(query.get("other")),
    key: query.get("key") ?? "",
    show: query.getAll("show"),
  };
}

export function address(state: State): string {
  const query = new URLSearchParams();
  if (state.s) query.set("s", String(state.s));
  if (state.view !== "rows") query.set("view", state.view);
  if (state.q) query.set("q", state.q);
  for (const filter of state.f) query.append("f", filter);
  if (state.sort) query.set("sort", state.sort);
  if (state.at) query.set("at", String(state.at));
  if (state.row !== null) query.set("row", String(state.row));
  if (state.with) query.set("with", state.with);
  if (state.other !== null) query.set("other", String(state.other));
  if (state.key) query.set("key", state.key);
  for (const column of state.show) query.append("show", column);
  const text = query.toString();
  return text ? `?${text}` : location.pathname;
}

export type Go = (change: Partial<State>, replace?: boolean) => void;

export function useAddress(): [State, Go] {
  const [state, set] = useState(() => read(location.search));
  useEffect(() => {
    const back = () => set(read(location.search));
    addEventListener("popstate", back);
    return () => removeEventListener("popstate", back);
  }, []);
  const go: Go = (change, replace = false) => {
    const next = { ...read(location.search), ...change };
    history[replace ? "replaceState" : "pushState"](null, "", address(next));
    set(next);
  };
  return [state, go];
}

/** The properties of a link that changes the state without loading the page again, and can be copied or opened elsewhere. */
export function link(state: State, go: Go, change: Partial<State>) {
  return {
    href: address({ ...state, ...change }),
    onClick: (event: MouseEvent) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
      event.preventDefault();
      go(change);
    },
  };
}
