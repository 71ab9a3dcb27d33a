// One row, or two side by side.
import { useEffect } from "preact/hooks";
import { useAnswer, type Component, type Detail, type Message, type Source } from "./api";
import { compareTexts, type Word } from "./diff";
import { count, number } from "./format";
import { link, type Go, type State } from "./state";

function text(messages: Message[]): string {
  return messages.map((message) => message.pieces.map((piece) => piece.text).join("")).join("\n");
}

function Messages({ messages }: { messages: Message[] }) {
  return (
    <>
      {messages.map((message, index) => (
        <div key={index} class="message">
          {message.role && <p class="role">{message.role}</p>}
          <pre tabIndex={0}>
            {message.pieces.map((piece, place) => piece.components.length
              ? <mark key={place} title={`extracted by ${piece.components.join(", ")}`}>
                  <span class="visually-hidden">[extracted by {piece.components.join(", ")}: </span>{piece.text}<span class="visually-hidden">]</span>
                </mark>
              : piece.text)}
          </pre>
        </div>
      ))}
    </>
  );
}

function Words({ words }: { words: Word[] }) {
  return (
    <pre tabIndex={0}>
      {words.map((word, index) => (word.differs ? <ins key={index} class="differs">{word.text}</ins> : word.text))}
    </pre>
  );
}

function More({ component }: { component: Component }) {
  const metrics = Object.entries(component.metrics);
  const more = Object.entries(component.more);
  if (!metrics.length && !more.length && !component.traceback && !component.steps.length) return null;
  return (
    <section>
      <h4>{component.name}: details</h4>
      {metrics.length > 0 && <dl class="fields">{metrics.map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{number(value)}</dd></div>)}</dl>}
      {component.steps.length > 0 && <p>Values of the steps: {component.steps.map((value) => number(value)).join(", ")}</p>}
      {more.map(([name, value]) => <div key={name}><h5>{name.replaceAll("_", " ")}</h5><pre tabIndex={0}>{value}</pre></div>)}
      {component.traceback && <><h5>Traceback</h5><pre tabIndex={0}>{component.traceback}</pre></>}
    </section>
  );
}

function Components({ components }: { components: Component[] }) {
  if (!components.length) return <p class="note">The row has no components.</p>;
  return (
    <div class="wide" role="region" aria-label="Components" tabIndex={0}>
      <table role="table" class="components">
        <thead role="rowgroup">
          <tr role="row">{["component", "value", "weight", "contribution", "reason"].map((name) => <th key={name} scope="col" role="columnheader">{name}</th>)}</tr>
        </thead>
        <tbody role="rowgroup">
          {components.map((part) => (
            <tr key={part.name} role="row">
              <th scope="row" role="rowheader">{part.name}</th>
              <td role="cell" class="number" data-label="value">{number(part.value, part.status)}</td>
              <td role="cell" class="number" data-label="weight">{number(part.weight)}</td>
              <td role="cell" class="number" data-label="contribution">{number(part.contribution)}</td>
              <td role="cell" class="reason" data-label="reason">{part.reason}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Fields({ fields }: { fields: Record<string, string> }) {
  const entries = Object.entries(fields);
  if (!entries.length) return null;
  return (
    <section>
      <h3>Fields</h3>
      <dl class="fields">
        {entries.map(([name, value]) => (
          <div key={name}><dt>{name}</dt><dd>{value.length > 120 || value.includes("\n") ? <pre tabIndex={0}>{value}</pre> : value}</dd></div>
        ))}
      </dl>
    </section>
  );
}

function Reward({ detail }: { detail: Detail }) {
  return <p class="reward"><span>reward</span> <strong>{detail.reward === null ? detail.status : number(detail.reward)}</strong></p>;
}

export function RowPanel(props: { source: Source; state: State; go: Go; neighbours: [number | null, number | null] }) {
  const { source, state, go, neighbours } = props;
  const { value: detail, error } = useAnswer<Detail>(`${state.s}/row/${state.row}`, source.version);
  const here = `${state.s}.${state.row}`;
  useEffect(() => {
    // On a narrow screen the row replaces the table, so the focus goes with it, and back.
    if (!matchMedia("(max-width: 1099px)").matches) return;
    document.getElementById("panel-title")?.focus();
    return () => {
      setTimeout(() => document.querySelector<HTMLElement>(`[data-row="${state.row}"]`)?.focus());
    };
  }, [state.row]);
  return (
    <aside class="panel" aria-label={`Row ${count((state.row ?? 0) + 1)}`}>
      <header>
        <h2 id="panel-title" tabIndex={-1}>Row {count((state.row ?? 0) + 1)}</h2>
        <div class="actions">
          <button type="button" disabled={neighbours[0] === null} onClick={() => go({ row: neighbours[0] })}>Previous</button>
          <button type="button" disabled={neighbours[1] === null} onClick={() => go({ row: neighbours[1] })}>Next</button>
          {state.with && state.with !== here
            ? <a class="button" {...link(state, go, { view: "compare", key: "" })}>Compare with the held row</a>
            : <button type="button" aria-pressed={state.with === here} onClick={() => go({ with: state.with === here ? "" : here })}>
                {state.with === here ? "Held for comparison" : "Hold for comparison"}
              </button>}
          {detail && <a class="button" {...link(state, go, { view: "rows", f: [JSON.stringify(["group", "=", detail.group])], q: "", at: 0 })}>Its group</a>}
          <button type="button" onClick={() => go({ row: null })}>Close</button>
        </div>
      </header>
      {error && <p role="alert" class="error">{error}</p>}
      {detail && (
        <>
          <Reward detail={detail} />
          <Components components={detail.components} />
          <h3>Prompt</h3><Messages messages={detail.prompt} />
          <h3>Completion</h3><Messages messages={detail.completion} />
          {detail.components.map((part) => <More key={part.name} component={part} />)}
          <Fields fields={detail.fields} />
        </>
      )}
    </aside>
  );
}

export function parsePair(held: string): [number, number] | null {
  const match = /^(\d{1,6})\.(\d{1,15})$/.exec(held);
  return match ? [Number(match[1]), Number(match[2])] : null;
}

/** Two completions side by side, with the words that differ underlined. */
export function Pair({ sources, state, go }: { sources: Source[]; state: State; go: Go }) {
  const held = parsePair(state.with);
  const first = useAnswer<Detail>(held ? `${held[0]}/row/${held[1]}` : null, 0);
  const second = useAnswer<Detail>(state.row === null ? null : `${state.s}/row/${state.row}`, 0);
  if (!held || state.row === null) return null;
  const names = [sources[held[0]]?.title ?? "", sources[state.s]?.title ?? ""];
  const error = first.error || second.error;
  if (error) return <p role="alert" class="error">{error}</p>;
  if (!first.value || !second.value) return <p role="status">Loading</p>;
  const words = compareTexts(text(first.value.completion), text(second.value.completion));
  const samePrompt = text(first.value.prompt) === text(second.value.prompt);
  return (
    <section aria-label="Two completions">
      <header class="actions">
        <h2>Two completions</h2>
        <button type="button" onClick={() => go({ s: held[0], row: held[1], with: `${state.s}.${state.row}` })}>Swap</button>
        <button type="button" onClick={() => go({ view: "rows", with: "", key: "" })}>End the comparison</button>
      </header>
      {!words && <p class="note">The completions are too long to mark the words that differ.</p>}
      <p class="note">Words that only one of the two has are underlined.{samePrompt ? " The prompt is the same." : " The prompts differ."}</p>
      <div class="pair">
        {[first.value, second.value].map((detail, index) => (
          <article key={index} aria-label={`${names[index]}, row ${detail.row + 1}`}>
            <h3>{sources.length > 1 ? `${names[index]}, ` : ""}row {count(detail.row + 1)}</h3>
            <Reward detail={detail} />
            <Components components={detail.components} />
            {(index === 0 || !samePrompt) && <><h4>Prompt</h4><Messages messages={detail.prompt} /></>}
            <h4>Completion</h4>
            {words ? <Words words={words[index]!} /> : <Messages messages={detail.completion} />}
            {detail.components.map((part) => <More key={part.name} component={part} />)}
          </article>
        ))}
      </div>
    </section>
  );
}
