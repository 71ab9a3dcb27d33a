// The training curves of one run, or of two in the same charts.
import { useState } from "preact/hooks";
import { useAnswer, type Metrics, type Source } from "./api";
import { Curves, type Line } from "./charts";

const FIRST = ["reward", "accuracy", "loss", "length", "truncated", "unscored", "kl", "entropy", "frac_reward_zero_std", "grad_norm"];

export function CurveList({ sources }: { sources: [number, Source][] }) {
  const [filter, setFilter] = useState("");
  const [a, b] = sources;
  const first = useAnswer<Metrics>(a ? `${a[0]}/metrics` : null, a?.[1].version ?? 0);
  const second = useAnswer<Metrics>(b ? `${b[0]}/metrics` : null, b?.[1].version ?? 0);
  const error = first.error || second.error;
  if (error) return <p role="alert" class="error">{error}</p>;
  if (!first.value || (b && !second.value)) return <p role="status">Loading</p>;
  const runs = [{ name: a![1].title, metrics: first.value }, ...(b ? [{ name: b[1].title, metrics: second.value! }] : [])];
  const names = [...new Set(runs.flatMap((run) => Object.values(run.metrics.series).flatMap((kind) => Object.keys(kind))))];
  const rank = (name: string) => {
    const place = FIRST.indexOf(name);
    return place >= 0 ? place : name.startsWith("component/") && !name.slice(10).includes("/") ? 100 : 200;
  };
  const wanted = names.filter((name) => name.toLowerCase().includes(filter.toLowerCase()))
    .sort((x, y) => rank(x) - rank(y) || x.localeCompare(y));
  const main = filter ? wanted : wanted.filter((name) => rank(name) < 200);
  const rest = filter ? [] : wanted.filter((name) => rank(name) >= 200);
  const chart = (name: string) => {
    const lines: Line[] = runs.flatMap((run, index) => Object.entries(run.metrics.series)
      .filter(([, series]) => series[name])
      .map(([kind, series]) => ({
        name: `${runs.length > 1 ? `${run.name}, ` : ""}${kind === "train" ? "training" : kind === "eval" ? "held-out data" : kind}`,
        points: series[name]!, tone: runs.length > 1 ? index : kind === "train" ? 0 : 1, dashed: runs.length > 1 && kind !== "train",
      })));
    const alarms = runs.flatMap((run) => run.metrics.alarms.map((alarm) => alarm.step ?? -1));
    return <Curves key={name} title={name} lines={lines} alarms={alarms} />;
  };
  const alarms = runs.flatMap((run) => run.metrics.alarms.map((alarm) => ({ ...alarm, run: run.name })));
  return (
    <section>
      <h2>Training curves</h2>
      <div class="field"><label for="metric">Metrics with</label><input id="metric" type="search" value={filter} onInput={(event) => setFilter(event.currentTarget.value)} /></div>
      {alarms.length > 0 && (
        <details open>
          <summary>{alarms.length === 1 ? "1 alarm" : `${alarms.length} alarms`}</summary>
          <ul>{alarms.slice(0, 50).map((alarm, index) => <li key={index}>{runs.length > 1 ? `${alarm.run}, ` : ""}step {alarm.step}, {alarm.name}: {alarm.message}</li>)}</ul>
        </details>
      )}
      {!names.length && <p class="note">The run has written no metrics yet.</p>}
      <div class="charts">{main.map(chart)}</div>
      {rest.length > 0 && <details><summary>{rest.length} more metrics</summary><div class="charts">{rest.map(chart)}</div></details>}
    </section>
  );
}
