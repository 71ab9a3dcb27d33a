// The table of rows, and the one of groups: sorted, in pages, reached by keyboard.
import type { ComponentChildren } from "preact";
import { choice, useAnswer, type Cell, type Column, type Groups, type Rows, type Source } from "./api";
import { count, number } from "./format";
import { link, type Go, type State } from "./state";

export const PAGE = 50;

function Heading({ column, state, go }: { column: { id: string; title: string; kind: string }; state: State; go: Go }) {
  const active = state.sort.replace(/^-/, "") === column.id;
  const descending = active && state.sort.startsWith("-");
  const next = !active ? `-${column.id}` : descending ? column.id : "";
  return (
    <th scope="col" role="columnheader" class={column.kind} aria-sort={active ? (descending ? "descending" : "ascending") : "none"}>
      <button type="button" onClick={() => go({ sort: next, at: 0 })} title="Sort">
        {column.title}<span aria-hidden="true">{active ? (descending ? " ↓" : " ↑") : ""}</span>
      </button>
    </th>
  );
}

/** The order as a field, on narrow screens, where rows are cards without headings. */
function Order({ columns, state, go }: { columns: { id: string; title: string }[]; state: State; go: Go }) {
  return (
    <div class="field narrow">
      <label for="order-field">Order</label>
      <select id="order-field" value={state.sort} onChange={(event) => go({ sort: event.currentTarget.value, at: 0 })}>
        <option value="">order of the file</option>
        {columns.flatMap((column) => [
          <option key={`-${column.id}`} value={`-${column.id}`}>{column.title}, highest first</option>,
          <option key={column.id} value={column.id}>{column.title}, lowest first</option>,
        ])}
      </select>
    </div>
  );
}

function shown(cell: Cell | undefined, kind: string): ComponentChildren {
  if (cell === null || cell === undefined) return <span class="missing">–</span>;
  return kind === "number" ? number(Number(cell)) : String(cell);
}

export function Pages({ total, state, go, what }: { total: number; state: State; go: Go; what: string }) {
  const last = Math.max(0, Math.floor((total - 1) / PAGE) * PAGE);
  const end = Math.min(total, state.at + PAGE);
  return (
    <nav class="pages" aria-label="Pages">
      <span role="status">{total ? `${count(Math.min(state.at + 1, total))}–${count(end)} of ${count(total)} ${what}` : `no ${what}`}</span>
      <button type="button" disabled={state.at <= 0} onClick={() => go({ at: 0 })}>First</button>
      <button type="button" disabled={state.at <= 0} onClick={() => go({ at: Math.max(0, state.at - PAGE) })}>Previous</button>
      <button type="button" disabled={end >= total} onClick={() => go({ at: state.at + PAGE })}>Next</button>
      <button type="button" disabled={end >= total} onClick={() => go({ at: last })}>Last</button>
    </nav>
  );
}

export function rowsPath(state: State): string {
  const query = choice(state);
  if (state.sort) query.set("sort", state.sort);
  query.set("offset", String(state.at));
  query.set("limit", String(PAGE));
  return `${state.s}/rows?${query}`;
}

export function useRows(source: Source, state: State, wanted: boolean) {
  return useAnswer<Rows>(wanted ? rowsPath(state) : null, source.version);
}

export function RowTable({ source, state, go, rows, waiting }: { source: Source; state: State; go: Go; rows: Rows; waiting: boolean }) {
  const columns = source.columns.filter((column) =>
    ["reward", "length", "step"].includes(column.id) || column.role === "component" || state.show.includes(column.id));
  const texts = source.columns.filter((column) => column.id === "prompt" || column.id === "completion");
  const cell = (column: Column, row: Record<string, Cell>) => {
    const status = column.role === "component" ? row[`status:${column.title}`] : column.id === "reward" ? row.status : null;
    if ((row[column.id] ?? null) === null && typeof status === "string" && status !== "scored") return <span class="missing">{status}</span>;
    return shown(row[column.id], column.kind);
  };
  return (
    <>
      <Order columns={columns} state={state} go={go} />
      <div class={waiting ? "wide waiting" : "wide"} role="region" aria-label="Rows" tabIndex={0}>
        <table class="rows" role="table" aria-rowcount={rows.total}>
          <thead role="rowgroup">
            <tr role="row">
              <Heading column={{ id: "row", title: "row", kind: "number" }} state={state} go={go} />
              {columns.map((column) => <Heading key={column.id} column={column} state={state} go={go} />)}
              {texts.map((column) => <th key={column.id} scope="col" role="columnheader" class="text">{column.title}</th>)}
            </tr>
          </thead>
          <tbody role="rowgroup">
            {rows.rows.map((row) => {
              const index = Number(row.row);
              const target = link(state, go, { row: index, with: state.with });
              return (
                <tr key={index} role="row" aria-selected={state.row === index} class={state.row === index ? "selected" : ""}
                  onClick={(event) => {
                    if (!(event.target as Element).closest("a, button") && !getSelection()?.toString()) go({ row: index });
                  }}>
                  <th scope="row" role="rowheader" class="number"><a {...target} data-row={index}>{count(index + 1)}</a></th>
                  {columns.map((column) => <td key={column.id} role="cell" class={column.kind} data-label={column.title}>{cell(column, row)}</td>)}
                  {texts.map((column) => <td key={column.id} role="cell" class="preview" data-label={column.title}>{String(row[column.id] ?? "")}</td>)}
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
      <Pages total={rows.total} state={state} go={go} what="rows" />
    </>
  );
}

const GROUP_COLUMNS = [
  { id: "first", title: "group", kind: "text" }, { id: "rows", title: "rows", kind: "number" },
  { id: "mean", title: "mean reward", kind: "number" }, { id: "std", title: "standard deviation", kind: "number" },
  { id: "min", title: "min", kind: "number" }, { id: "max", title: "max", kind: "number" },
];

export function GroupTable({ source, state, go }: { source: Source; state: State; go: Go }) {
  const query = choice(state);
  const sort = GROUP_COLUMNS.some((column) => column.id === state.sort.replace(/^-/, "")) ? state.sort : "";
  if (sort) query.set("sort", sort);
  query.set("offset", String(state.at));
  query.set("limit", String(PAGE));
  const answer = useAnswer<Groups>(`${state.s}/groups?${query}`, source.version);
  if (answer.error) return <p role="alert" class="error">{answer.error}</p>;
  if (!answer.value) return <p role="status">Loading</p>;
  return (
    <>
      <p class="note">Rows of one group answer the same prompt. A group whose rewards are all equal is flat: it gives no training signal.</p>
      <Order columns={GROUP_COLUMNS} state={state} go={go} />
      <div class={answer.waiting ? "wide waiting" : "wide"} role="region" aria-label="Groups" tabIndex={0}>
        <table class="rows" role="table" aria-rowcount={answer.value.total}>
          <thead role="rowgroup">
            <tr role="row">
              {GROUP_COLUMNS.map((column) => <Heading key={column.id} column={column} state={state} go={go} />)}
              <th scope="col" role="columnheader" class="text">flat</th>
              <th scope="col" role="columnheader" class="text">prompt</th>
            </tr>
          </thead>
          <tbody role="rowgroup">
            {answer.value.groups.map((group) => {
              const target = link(state, go, {
                view: "rows", f: [...state.f, JSON.stringify(["group", "=", group.key])], at: 0, sort: "-reward", row: null,
              });
              const flat = group.scored >= 2 && group.min !== null && group.max !== null && group.max - group.min <= 1e-9;
              return (
                <tr key={group.key} role="row">
                  <th scope="row" role="rowheader" class="text"><a {...target}>{group.key.length > 24 ? `${group.key.slice(0, 8)}` : group.key}</a></th>
                  <td role="cell" class="number" data-label="rows">{count(group.rows)}{group.scored < group.rows ? ` (${count(group.rows - group.scored)} unscored)` : ""}</td>
                  <td role="cell" class="number" data-label="mean reward">{number(group.mean)}</td>
                  <td role="cell" class="number" data-label="standard deviation">{number(group.std)}</td>
                  <td role="cell" class="number" data-label="min">{number(group.min)}</td>
                  <td role="cell" class="number" data-label="max">{number(group.max)}</td>
                  <td role="cell" data-label="flat">{flat ? "flat" : ""}</td>
                  <td role="cell" class="preview" data-label="prompt">{group.prompt}</td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
      <Pages total={answer.value.total} state={state} go={go} what="groups" />
    </>
  );
}
