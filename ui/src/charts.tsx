// Charts with axes, units, a description for screen readers, and their numbers as a table.
import { count, number, ticks } from "./format";
import type { Numbers } from "./api";

const WIDTH = 440, HEIGHT = 220, LEFT = 58, RIGHT = 14, TOP = 12, BOTTOM = 44;

function scale(low: number, high: number, from: number, to: number): (value: number) => number {
  const span = high - low || 1;
  return (value) => from + ((value - low) / span) * (to - from);
}

function Axes(props: { x: (v: number) => number; y: (v: number) => number; xs: number[]; ys: number[]; xName: string; yName: string }) {
  const { x, y, xs, ys } = props;
  return (
    <g class="axes">
      <line x1={LEFT} x2={WIDTH - RIGHT} y1={HEIGHT - BOTTOM} y2={HEIGHT - BOTTOM} />
      <line x1={LEFT} x2={LEFT} y1={TOP} y2={HEIGHT - BOTTOM} />
      {xs.map((value) => (
        <g key={`x${value}`}>
          <line x1={x(value)} x2={x(value)} y1={HEIGHT - BOTTOM} y2={HEIGHT - BOTTOM + 4} />
          <text x={x(value)} y={HEIGHT - BOTTOM + 17} text-anchor="middle">{number(value)}</text>
        </g>
      ))}
      {ys.map((value) => (
        <g key={`y${value}`}>
          <line class="grid" x1={LEFT} x2={WIDTH - RIGHT} y1={y(value)} y2={y(value)} />
          <text x={LEFT - 6} y={y(value) + 4} text-anchor="end">{number(value)}</text>
        </g>
      ))}
      <text x={(LEFT + WIDTH - RIGHT) / 2} y={HEIGHT - 8} text-anchor="middle">{props.xName}</text>
      <text x={14} y={(TOP + HEIGHT - BOTTOM) / 2} text-anchor="middle" transform={`rotate(-90 14 ${(TOP + HEIGHT - BOTTOM) / 2})`}>
        {props.yName}
      </text>
    </g>
  );
}

export function Histogram({ numbers, unit }: { numbers: Numbers; unit: string }) {
  const { bins, title } = numbers;
  if (!bins.length || numbers.low === null || numbers.high === null) {
    return <p class="note">{title}: no values</p>;
  }
  const single = bins.every((bin) => bin.from === bin.to);
  const margin = single ? ((numbers.high - numbers.low) || 1) * 0.05 : 0;
  const low = numbers.low - margin, high = numbers.high + margin;
  const most = Math.max(...bins.map((bin) => bin.rows));
  const x = scale(low, high, LEFT, WIDTH - RIGHT);
  const y = scale(0, most, HEIGHT - BOTTOM, TOP);
  const thin = Math.max(3, Math.min(14, (WIDTH - LEFT - RIGHT) / (bins.length * 2)));
  const words = `Histogram of ${title}: ${count(numbers.scored)} values from ${number(numbers.low)} to ${number(numbers.high)}, ` +
    `mean ${number(numbers.mean)}, standard deviation ${number(numbers.std)}`;
  const range = (from: number, to: number) => (from === to ? number(from) : `${number(from)} to ${number(to)}`);
  return (
    <figure>
      <figcaption>{title}: mean {number(numbers.mean)} ± {number(numbers.std)} (standard deviation), {count(numbers.scored)} values</figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={words}>
        <Axes x={x} y={y} xs={ticks(low, high)} ys={ticks(0, most, 4)} xName={title === unit ? `completion length in ${unit}` : title} yName="rows" />
        {bins.map((bin) => {
          const left = single ? x(bin.from) - thin / 2 : x(bin.from) + 0.5;
          const width = single ? thin : Math.max(1, x(bin.to) - x(bin.from) - 1);
          return (
            <rect key={bin.from} class="bar" x={left} width={width} y={y(bin.rows)} height={HEIGHT - BOTTOM - y(bin.rows)}>
              <title>{range(bin.from, bin.to)}: {count(bin.rows)} rows</title>
            </rect>
          );
        })}
      </svg>
      <details>
        <summary>Numbers of this chart</summary>
        <table>
          <thead><tr><th scope="col">{title}</th><th scope="col">rows</th></tr></thead>
          <tbody>{bins.map((bin) => <tr key={bin.from}><td>{range(bin.from, bin.to)}</td><td>{count(bin.rows)}</td></tr>)}</tbody>
        </table>
      </details>
    </figure>
  );
}

export interface Line { name: string; points: [number, number | null][]; tone: number; dashed: boolean }

export function Curves({ title, lines, alarms }: { title: string; lines: Line[]; alarms: number[] }) {
  const points = lines.flatMap((line) => line.points).filter((point): point is [number, number] => point[1] !== null && Number.isFinite(point[1]));
  if (!points.length) return null;
  const xs = points.map((point) => point[0]), ys = points.map((point) => point[1]);
  const [left, right] = [Math.min(...xs), Math.max(...xs)];
  let [low, high] = [Math.min(...ys), Math.max(...ys)];
  if (low === high) [low, high] = [low - Math.abs(low || 1) * 0.1, high + Math.abs(high || 1) * 0.1];
  const x = scale(left, right, LEFT, WIDTH - RIGHT), y = scale(low, high, HEIGHT - BOTTOM, TOP);
  const words = lines.map((line) => {
    const known = line.points.filter((point) => point[1] !== null);
    const first = known[0], last = known[known.length - 1];
    return first && last ? `${line.name}: from ${number(first[1])} at step ${first[0]} to ${number(last[1])} at step ${last[0]}` : "";
  }).filter(Boolean).join("; ");
  return (
    <figure>
      <figcaption>{title}</figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={`${title} by step. ${words}`}>
        <Axes x={x} y={y} xs={ticks(left, right)} ys={ticks(low, high, 4)} xName="step" yName="value" />
        {alarms.filter((step) => step >= left && step <= right).map((step) => (
          <line key={step} class="alarm" x1={x(step)} x2={x(step)} y1={TOP} y2={HEIGHT - BOTTOM}><title>alarm at step {step}</title></line>
        ))}
        {lines.map((line) => (
          <g key={line.name} class={`tone${line.tone}`}>
            <path class={line.dashed ? "curve dashed" : "curve"} d={path(line.points, x, y)} />
            {line.points.length === 1 && line.points[0]![1] !== null && <circle r="3" cx={x(line.points[0]![0])} cy={y(line.points[0]![1])} />}
          </g>
        ))}
      </svg>
      <ul class="legend">
        {lines.map((line) => (
          <li key={line.name} class={`tone${line.tone}`}><span class={line.dashed ? "swatch dashed" : "swatch"} aria-hidden="true" />{line.name}</li>
        ))}
      </ul>
    </figure>
  );
}

function path(points: [number, number | null][], x: (v: number) => number, y: (v: number) => number): string {
  let pen = "M";
  return points.map(([step, value]) => {
    if (value === null || !Number.isFinite(value)) {
      pen = "M";
      return "";
    }
    const part = `${pen}${x(step).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = "L";
    return part;
  }).join("");
}
