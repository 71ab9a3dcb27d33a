// What the server answers. Addresses are relative, since the page's own begins with the token.
import { useEffect, useState } from "preact/hooks";

export interface Column { id: string; title: string; kind: "number" | "text"; role: string }
export interface Source {
  title: string; kind: string; path: string; rows: number; version: number; has_metrics: boolean; columns: Column[];
}
export type Cell = number | string | null;
export type Row = Record<string, Cell>;
export interface Rows { total: number; rows: Row[] }
export interface Group {
  key: string; first: number; rows: number; scored: number; prompt: string;
  mean: number | null; std: number | null; min: number | null; max: number | null;
}
export interface Groups { total: number; groups: Group[] }
export interface Piece { text: string; components: string[] }
export interface Message { role: string; pieces: Piece[] }
export interface Component {
  name: string; value: number | null; weight: number | null; contribution: number | null; status: string; reason: string;
  traceback: string; metrics: Record<string, number>; steps: number[]; more: Record<string, string>;
}
export interface Detail {
  row: number; reward: number | null; status: string; group: string; prompt: Message[]; completion: Message[];
  components: Component[]; fields: Record<string, string>;
}
export interface Bin { from: number; to: number; rows: number }
export interface Numbers {
  id: string; title: string; scored: number; mean: number | null; std: number | null; low: number | null; high: number | null;
  bins: Bin[];
}
export interface Summary { numbers: Numbers[]; statuses: Record<string, Record<string, number>> }
export interface Metrics {
  series: Record<string, Record<string, [number, number | null][]>>;
  alarms: { step?: number; name?: string; message?: string }[];
  stage: string;
}
export interface SharedPrompt {
  key: string; prompt: string; a: number | null; b: number | null; a_rows: number; b_rows: number; difference: number | null;
}
export interface Shared { total: number; prompts: SharedPrompt[] }

export async function ask<T>(path: string, signal?: AbortSignal): Promise<T> {
  let response: Response;
  try {
    response = await fetch(`api/${path}`, { signal });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Error("The viewer does not answer: `rewardkit view` has ended.");
  }
  const content = await response.json();
  if (!response.ok) throw new Error(content.error ?? `The viewer answered ${response.status}.`);
  return content as T;
}

export interface Answer<T> { value: T | null; error: string; waiting: boolean }

/** Asks the server, again whenever the path or the version changes. The last answer stays until the next one is there. */
export function useAnswer<T>(path: string | null, version = 0): Answer<T> {
  const [answer, set] = useState<Answer<T> & { path: string | null }>({ value: null, error: "", waiting: true, path: null });
  useEffect(() => {
    if (path === null) return;
    const control = new AbortController();
    set((last) => ({ ...last, waiting: true }));
    ask<T>(path, control.signal)
      .then((value) => set({ value, error: "", waiting: false, path }))
      .catch((error: Error) => {
        if (!control.signal.aborted) set({ value: null, error: error.message, waiting: false, path });
      });
    return () => control.abort();
  }, [path, version]);
  return path === null ? { value: null, error: "", waiting: false } : answer;
}

/** The part of an address that chooses rows. */
export function choice(state: { q: string; f: string[] }): URLSearchParams {
  const query = new URLSearchParams();
  if (state.q) query.set("q", state.q);
  for (const filter of state.f) query.append("f", filter);
  return query;
}
