// Two files or runs side by side: components, curves, and the prompts that both have.
import { choice, useAnswer, type Rows, type Shared, type Source, type Summary } from "./api";
import { CurveList } from "./curves";
import { Pair } from "./detail";
import { count, number } from "./format";
import { link, type Go, type State } from "./state";
import { PAGE, Pages } from "./table";

export function Compare({ sources, state, go }: { sources: Source[]; state: State; go: Go }) {
  if (state.row !== null && state.with) return <Pair sources={sources} state={state} go={go} />;
  if (sources.length < 2) {
    return <p class="note">To compare two completions, open a row, hold it, and open another. To compare two files or runs, name both: <code>rewardkit view FIRST SECOND</code>.</p>;
  }
  const other = state.other ?? (state.s === 0 ? 1 : 0);
  const first = sources[state.s], second = sources[other];
  if (!first || !second) return <p role="alert" class="error">There is no such file or run.</p>;
  return (
    <>
      <div class="toolbar">
        <div class="field">
          <label for="other">Compare {first.title} with</label>
          <select id="other" value={String(other)} onChange={(event) => go({ other: Number(event.currentTarget.value), at: 0, key: "" })}>
            {sources.map((source, index) => index !== state.s && <option key={index} value={String(index)}>{source.title}</option>)}
          </select>
        </div>
      </div>
      <Means first={first} second={second} state={state} other={other} />
      {first.has_metrics && second.has_metrics && <CurveList sources={[[state.s, first], [other, second]]} />}
      {state.key ? <Both first={first} second={second} other={other} state={state} go={go} /> : <Prompts first={first} second={second} other={other} state={state} go={go} />}
    </>
  );
}

function Means({ first, second, state, other }: { first: Source; second: Source; state: State; other: number }) {
  const a = useAnswer<Summary>(`${state.s}/summary?${choice({ q: "", f: [] })}`, first.version);
  const b = useAnswer<Summary>(`${other}/summary?${choice({ q: "", f: [] })}`, second.version);
  if (!a.value || !b.value) return a.error || b.error ? <p role="alert" class="error">{a.error || b.error}</p> : <p role="status">Loading</p>;
  const titles = [...new Set([...a.value.numbers, ...b.value.numbers].map((one) => one.title))];
  const of = (summary: Summary, title: string) => summary.numbers.find((one) => one.title === title);
  return (
    <section>
      <h2>Means</h2>
      <div class="wide" role="region" aria-label="Means" tabIndex={0}>
        <table>
          <thead><tr>{["", first.title, second.title, "difference", "values"].map((name) => <th key={name} scope="col" class="number">{name}</th>)}</tr></thead>
          <tbody>
            {titles.map((title) => {
              const left = of(a.value!, title), right = of(b.value!, title);
              const difference = left?.mean != null && right?.mean != null ? right.mean - left.mean : null;
              return (
                <tr key={title}>
                  <th scope="row">{title}</th>
                  <td class="number">{number(left?.mean)} ± {number(left?.std)}</td>
                  <td class="number">{number(right?.mean)} ± {number(right?.std)}</td>
                  <td class="number">{difference !== null && difference > 0 ? "+" : ""}{number(difference)}</td>
                  <td class="number">{count(left?.scored ?? 0)} / {count(right?.scored ?? 0)}</td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </section>
  );
}

type Two = { first: Source; second: Source; other: number; state: State; go: Go };

function Prompts({ first, second, other, state, go }: Two) {
  const query = new URLSearchParams({ offset: String(state.at), limit: String(PAGE) });
  const orders: [string, string][] = [
    ["-change", "largest change"], ["-difference", "largest gain"], ["difference", "largest loss"], ["first", "order of the file"],
  ];
  const sort = orders.some(([id]) => id === state.sort) ? state.sort : "-change";
  query.set("sort", sort);
  const { value, error } = useAnswer<Shared>(`compare/${state.s}/${other}?${query}`, first.version * 1e6 + second.version);
  return (
    <section>
      <h2>Prompts that both have</h2>
      {error && <p role="alert" class="error">{error}</p>}
      <div class="toolbar">
        <div class="field">
          <label for="order">Order</label>
          <select id="order" value={sort} onChange={(event) => go({ sort: event.currentTarget.value, at: 0 })}>
            {orders.map(([id, name]) => <option key={id} value={id}>{name}</option>)}
          </select>
        </div>
      </div>
      {value && (
        <>
          <div class="wide" role="region" aria-label="Shared prompts" tabIndex={0}>
            <table class="rows" role="table">
              <thead role="rowgroup">
                <tr role="row">{[`mean reward in ${first.title}`, `mean reward in ${second.title}`, "difference", "rows", "prompt"].map((name) => <th key={name} scope="col" role="columnheader" class={name === "prompt" ? "text" : "number"}>{name}</th>)}</tr>
              </thead>
              <tbody role="rowgroup">
                {value.prompts.map((prompt) => (
                  <tr key={prompt.key} role="row">
                    <td role="cell" class="number" data-label={first.title}>{number(prompt.a)}</td>
                    <td role="cell" class="number" data-label={second.title}>{number(prompt.b)}</td>
                    <td role="cell" class="number" data-label="difference">{prompt.difference !== null && prompt.difference > 0 ? "+" : ""}{number(prompt.difference)}</td>
                    <td role="cell" class="number" data-label="rows">{count(prompt.a_rows)} / {count(prompt.b_rows)}</td>
                    <td role="cell" class="preview" data-label="prompt"><a {...link(state, go, { key: prompt.key, other })}>{prompt.prompt || "(empty)"}</a></td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
          <Pages total={value.total} state={state} go={go} what="prompts" />
        </>
      )}
    </section>
  );
}

/** The completions of one prompt in both sources. */
function Both({ first, second, other, state, go }: Two) {
  const query = new URLSearchParams({ f: JSON.stringify(["prompt_key", "=", state.key]), sort: "-reward", limit: "50" });
  const a = useAnswer<Rows>(`${state.s}/rows?${query}`, first.version);
  const b = useAnswer<Rows>(`${other}/rows?${query}`, second.version);
  const error = a.error || b.error;
  if (error) return <p role="alert" class="error">{error}</p>;
  if (!a.value || !b.value) return <p role="status">Loading</p>;
  const best = b.value.rows[0];
  return (
    <section>
      <header class="actions">
        <h2>One prompt in both</h2>
        <button type="button" onClick={() => go({ key: "" })}>All shared prompts</button>
      </header>
      <p>{String(a.value.rows[0]?.prompt ?? best?.prompt ?? "")}</p>
      <div class="pair">
        {([[first, a.value, state.s], [second, b.value, other]] as [Source, Rows, number][]).map(([source, rows, index]) => (
          <article key={index} aria-label={source.title}>
            <h3>{source.title}</h3>
            <ol class="completions">
              {rows.rows.map((row) => {
                const partner = index === state.s ? best : a.value!.rows[0];
                const change = index === state.s
                  ? { with: `${state.s}.${row.row}`, s: other, row: Number(partner?.row ?? 0) }
                  : { with: `${state.s}.${partner?.row ?? 0}`, s: other, row: Number(row.row) };
                return (
                  <li key={String(row.row)}>
                    <a {...link(state, go, change)}>row {count(Number(row.row) + 1)}, reward {number(row.reward as number | null, String(row.status))}</a>
                    <span class="snippet">{String(row.completion)}</span>
                  </li>
                );
              })}
            </ol>
          </article>
        ))}
      </div>
    </section>
  );
}
