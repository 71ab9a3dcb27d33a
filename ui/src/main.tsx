// The page: sources, views, keyboard, and what has been added since.
import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ask, choice, useAnswer, type Source, type Summary } from "./api";
import { Histogram } from "./charts";
import { Compare } from "./compare";
import { CurveList } from "./curves";
import { RowPanel } from "./detail";
import { ColumnChoice, Toolbar } from "./filters";
import { count } from "./format";
import { link, read, useAddress, type Go, type State, type View } from "./state";
import { GroupTable, PAGE, RowTable, useRows } from "./table";

const POLL_MS = 2000;

const KEYS: [string, string][] = [
  ["j or n", "next row"], ["k or p", "previous row"], ["/", "search"], ["h", "hold the open row for comparison"],
  ["c", "compare it with the held row"], ["r, g, d", "rows, groups, distributions"], ["Escape", "close the row"], ["?", "these keys"],
];

function useSources(following: boolean) {
  const [answer, set] = useState<{ sources: Source[] | null; problem: string }>({ sources: null, problem: "" });
  useEffect(() => {
    let over = false, timer = 0;
    const load = async () => {
      try {
        const found = await ask<{ sources: Source[]; problem: string }>("state");
        if (!over) set(found);
      } catch (error) {
        if (!over) set((last) => ({ ...last, problem: (error as Error).message }));
      }
      if (!over && following) timer = setTimeout(load, document.hidden ? 5 * POLL_MS : POLL_MS) as unknown as number;
    };
    load();
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [following]);
  return answer;
}

function Distributions({ source, state }: { source: Source; state: State }) {
  const { value, error, waiting } = useAnswer<Summary>(`${state.s}/summary?${choice(state)}`, source.version);
  if (error) return <p role="alert" class="error">{error}</p>;
  if (!value) return <p role="status">Loading</p>;
  const unit = source.columns.find((column) => column.id === "length")?.title ?? "characters";
  return (
    <div class={waiting ? "waiting" : ""}>
      <div class="charts">{value.numbers.map((numbers) => <Histogram key={numbers.id} numbers={numbers} unit={unit} />)}</div>
      <h2>Rows by status</h2>
      <div class="wide" role="region" aria-label="Rows by status" tabIndex={0}>
        <table>
          <thead><tr><th scope="col"></th><th scope="col">status</th><th scope="col">rows</th></tr></thead>
          <tbody>
            {Object.entries(value.statuses).flatMap(([name, counts]) => Object.entries(counts).map(([status, rows]) => (
              <tr key={`${name} ${status}`}><th scope="row">{name === "status" ? "reward" : name}</th><td>{status}</td><td class="number">{count(rows)}</td></tr>
            )))}
          </tbody>
        </table>
      </div>
    </div>
  );
}

function Rows({ source, state, go }: { source: Source; state: State; go: Go }) {
  const answer = useRows(source, state, true);
  const rows = answer.value;
  const numbers = rows?.rows.map((row) => Number(row.row)) ?? [];
  const place = state.row === null ? -1 : numbers.indexOf(state.row);
  const neighbours: [number | null, number | null] = [
    place > 0 ? numbers[place - 1]! : null,
    place >= 0 && place < numbers.length - 1 ? numbers[place + 1]! : null,
  ];
  const step = (by: number) => {
    if (!numbers.length) return;
    const open = read(location.search).row; // keys may come faster than the page is drawn
    const place = open === null ? -1 : numbers.indexOf(open);
    if (place < 0) return go({ row: by > 0 ? numbers[0]! : numbers[numbers.length - 1]! });
    const next = numbers[place + by];
    if (next !== undefined) return go({ row: next }, true);
    const at = state.at + by * PAGE;
    if (at >= 0 && rows && at < rows.total) go({ at, row: null });
  };
  useEffect(() => {
    const move = (event: Event) => step((event as CustomEvent<number>).detail);
    addEventListener("step", move);
    return () => removeEventListener("step", move);
  });
  useEffect(() => {
    if (state.row !== null) document.querySelector(`[data-row="${state.row}"]`)?.scrollIntoView({ block: "nearest" });
  }, [state.row, rows]);
  return (
    <div class={state.row === null ? "layout" : "layout open"}>
      <div class="list">
        <Toolbar source={source} state={state} go={go} />
        <ColumnChoice source={source} state={state} go={go} />
        {answer.error && <p role="alert" class="error">{answer.error}</p>}
        {!rows && !answer.error && <p role="status">Loading</p>}
        {rows && <RowTable source={source} state={state} go={go} rows={rows} waiting={answer.waiting} />}
      </div>
      {state.row !== null && <RowPanel source={source} state={state} go={go} neighbours={neighbours} />}
    </div>
  );
}

function App() {
  const [state, go] = useAddress();
  const [following, setFollowing] = useState(true);
  const { sources, problem } = useSources(following);
  const help = useRef<HTMLDialogElement>(null);
  const source = sources?.[state.s];
  const known = useRef<{ s: number; rows: number } | null>(null);
  const [news, setNews] = useState("");
  useEffect(() => {
    if (!source) return;
    const last = known.current;
    if (last && last.s === state.s && source.rows > last.rows) setNews(`${count(source.rows - last.rows)} more, ${count(source.rows)} rows in all`);
    known.current = { s: state.s, rows: source.rows };
  }, [source?.rows, state.s]);
  useEffect(() => {
    document.title = source ? `${source.title} – rewardkit view` : "rewardkit view";
  }, [source?.title]);
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const state = read(location.search);
      const target = event.target as HTMLElement;
      if (event.key === "Escape" && !help.current?.open) {
        if (target.matches("input")) target.blur();
        else if (state.row !== null) go({ row: null });
        return;
      }
      if (target.matches("input, select, textarea")) return;
      const here = `${state.s}.${state.row}`;
      const actions: Record<string, () => void> = {
        j: () => dispatchEvent(new CustomEvent("step", { detail: 1 })), n: () => dispatchEvent(new CustomEvent("step", { detail: 1 })),
        k: () => dispatchEvent(new CustomEvent("step", { detail: -1 })), p: () => dispatchEvent(new CustomEvent("step", { detail: -1 })),
        "/": () => document.getElementById("search")?.focus(),
        h: () => state.row !== null && go({ with: here }),
        c: () => state.row !== null && state.with && state.with !== here && go({ view: "compare", key: "" }),
        r: () => go({ view: "rows", at: 0, sort: "" }), g: () => go({ view: "groups", at: 0, sort: "" }), d: () => go({ view: "charts" }),
        "?": () => help.current?.showModal(),
      };
      const action = actions[event.key];
      if (action) {
        event.preventDefault();
        action();
      }
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  });
  if (!sources) return <main>{problem ? <p role="alert" class="error">{problem}</p> : <p role="status">Loading</p>}</main>;
  const views: [View, string][] = [
    ["rows", "Rows"], ["groups", "Groups"], ["charts", "Distributions"],
    ...(source?.has_metrics ? [["curves", "Training curves"] as [View, string]] : []), ["compare", "Compare"],
  ];
  return (
    <>
      <a class="skip" href="#content" onClick={(event) => { event.preventDefault(); document.getElementById("content")?.focus(); }}>Skip to the content</a>
      <header class="top">
        <h1>rewardkit view</h1>
        <div class="field source">
          <label for="source" class="visually-hidden">File or run</label>
          <select id="source" value={String(state.s)}
            onChange={(event) => go({ s: Number(event.currentTarget.value), at: 0, row: null, f: [], q: "", sort: "", key: "", other: null })}>
            {sources.map((one, index) => <option key={index} value={String(index)}>{one.title} ({one.kind}, {count(one.rows)} rows)</option>)}
          </select>
        </div>
        <nav aria-label="Views">
          <ul>
            {views.map(([view, name]) => (
              <li key={view}><a {...link(state, go, { view, at: 0, sort: "", key: "" })} aria-current={state.view === view ? "page" : undefined}>{name}</a></li>
            ))}
          </ul>
        </nav>
        <div class="actions">
          <button type="button" aria-pressed={following} onClick={() => setFollowing(!following)}>{following ? "Following" : "Follow"}</button>
          <button type="button" onClick={() => help.current?.showModal()}>Keys</button>
        </div>
      </header>
      <p class="news" role="status" aria-live="polite">{news}</p>
      {problem && <p role="alert" class="error">{problem}</p>}
      <main id="content" tabIndex={-1}>
        {!source && <p role="alert" class="error">There is no file or run number {state.s + 1}.</p>}
        {source && state.view === "rows" && <Rows key={state.s} source={source} state={state} go={go} />}
        {source && state.view === "groups" && <><Toolbar source={source} state={state} go={go} /><GroupTable source={source} state={state} go={go} /></>}
        {source && state.view === "charts" && <><Toolbar source={source} state={state} go={go} /><Distributions source={source} state={state} /></>}
        {source && state.view === "curves" && source.has_metrics && <CurveList sources={[[state.s, source]]} />}
        {source && state.view === "compare" && <Compare sources={sources} state={state} go={go} />}
      </main>
      <footer>{source?.path}</footer>
      <dialog ref={help} aria-labelledby="keys-title">
        <h2 id="keys-title">Keys</h2>
        <dl class="keys">{KEYS.map(([key, meaning]) => <div key={key}><dt><kbd>{key}</kbd></dt><dd>{meaning}</dd></div>)}</dl>
        <form method="dialog"><button>Close</button></form>
      </dialog>
    </>
  );
}

render(<App />, document.getElementById("app")!);
