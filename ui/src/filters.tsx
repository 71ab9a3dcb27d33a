// Search, filters and further columns.
import { useEffect, useRef, useState } from "preact/hooks";
import type { Source } from "./api";
import type { Go, State } from "./state";

const NUMBER = ["<", "<=", "=", "!=", ">=", ">", "missing", "present"];
const TEXT = ["contains", "=", "!=", "missing", "present"];
const WORDS: Record<string, string> = {
  "<": "<", "<=": "≤", "=": "=", "!=": "≠", ">=": "≥", ">": ">", contains: "contains", missing: "is missing", present: "is present",
};

export function describe(filter: string, source: Source): string {
  try {
    const [id, operator, value] = JSON.parse(filter) as [string, string, unknown];
    const title = source.columns.find((column) => column.id === id)?.title ?? (id === "prompt_key" ? "prompt" : id);
    return `${title} ${WORDS[operator] ?? operator}${value === undefined || value === null ? "" : ` ${value}`}`;
  } catch {
    return filter;
  }
}

export function Toolbar({ source, state, go }: { source: Source; state: State; go: Go }) {
  const [text, setText] = useState(state.q);
  const [column, setColumn] = useState("reward");
  const [operator, setOperator] = useState("<");
  const [value, setValue] = useState("");
  const timer = useRef(0);
  useEffect(() => setText(state.q), [state.q]);
  const chosen = source.columns.find((one) => one.id === column) ?? source.columns[0]!;
  const operators = chosen.kind === "number" ? NUMBER : TEXT;
  const needsValue = operator !== "missing" && operator !== "present";
  const valid = chosen.kind !== "number" || Number.isFinite(Number(value));
  const search = (next: string) => {
    setText(next);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => go({ q: next, at: 0 }, true), 250) as unknown as number;
  };
  const add = (event: Event) => {
    event.preventDefault();
    if (needsValue && (value.trim() === "" || !valid)) return;
    const content = needsValue ? [column, operator, chosen.kind === "number" ? Number(value) : value] : [column, operator];
    go({ f: [...state.f, JSON.stringify(content)], at: 0 });
    setValue("");
  };
  const choose = (id: string) => {
    const next = source.columns.find((one) => one.id === id) ?? chosen;
    setColumn(id);
    if (next.kind !== chosen.kind) setOperator(next.kind === "number" ? "<" : "contains");
  };
  return (
    <div class="toolbar">
      <div class="field grow">
        <label for="search">Search prompts, completions and reasons</label>
        <input id="search" type="search" value={text} onInput={(event) => search(event.currentTarget.value)} />
      </div>
      <form class="filter" aria-label="Add a filter" onSubmit={add}>
        <div class="field">
          <label for="filter-column">Column</label>
          <select id="filter-column" value={column} onChange={(event) => choose(event.currentTarget.value)}>
            {source.columns.map((one) => <option key={one.id} value={one.id}>{one.title}</option>)}
          </select>
        </div>
        <div class="field">
          <label for="filter-operator">Condition</label>
          <select id="filter-operator" value={operator} onChange={(event) => setOperator(event.currentTarget.value)}>
            {operators.map((one) => <option key={one} value={one}>{WORDS[one]}</option>)}
          </select>
        </div>
        {needsValue && (
          <div class="field">
            <label for="filter-value">Value</label>
            <input id="filter-value" size={8} value={value} type="text" inputMode={chosen.kind === "number" ? "decimal" : "text"} aria-invalid={!valid}
              onInput={(event) => setValue(event.currentTarget.value)} />
          </div>
        )}
        <button type="submit">Add filter</button>
      </form>
      {state.f.length > 0 && (
        <ul class="chips" aria-label="Filters">
          {state.f.map((filter, index) => (
            <li key={filter}>
              <span>{describe(filter, source)}</span>
              <button type="button" aria-label={`Remove the filter ${describe(filter, source)}`}
                onClick={() => go({ f: state.f.filter((_, place) => place !== index), at: 0 })}>×</button>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}

export function ColumnChoice({ source, state, go }: { source: Source; state: State; go: Go }) {
  const further = source.columns.filter((column) => column.role === "field" || column.role === "status");
  if (!further.length) return null;
  return (
    <details class="columns">
      <summary>Further columns</summary>
      <fieldset>
        <legend>Shown in the table</legend>
        {further.map((column) => (
          <label key={column.id}>
            <input type="checkbox" checked={state.show.includes(column.id)}
              onChange={(event) => go({
                show: event.currentTarget.checked ? [...state.show, column.id] : state.show.filter((id) => id !== column.id),
              })} />
            {column.title}
          </label>
        ))}
      </fieldset>
    </details>
  );
}
