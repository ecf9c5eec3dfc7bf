/** Interval charts (a dot with its interval per category) and bar charts; both lie on their side so that names can be read. */
import * as Plot from "@observablehq/plot";

import {
  type Domain,
  type Panel,
  type Row,
  categoryAxes,
  clamp,
  domainOf,
  draw,
  labelBelow,
  look,
  paintOrder,
  say,
  ticksOf,
} from "./chart.js";
import { distinct } from "./data.js";
import { show, showOn, textWidth, truncate } from "./text.js";

const VALUE_GAP = 12;

/** Categories from the largest mean value to the smallest, over all panels, so that panels can be compared. */
function sorted(rows: readonly Row[]): string[] {
  const names = distinct(rows.map((row) => row.category));
  const mean = new Map(
    names.map((name) => {
      const values = rows.filter((row) => row.category === name && Number.isFinite(row.value)).map((row) => row.value);
      return [name, values.length === 0 ? -Infinity : values.reduce((sum, value) => sum + value, 0) / values.length];
    }),
  );
  return names.sort((a, b) => (mean.get(b) ?? 0) - (mean.get(a) ?? 0));
}

function written(row: Row, write: (value: number) => string): string {
  const ends = Number.isFinite(row.low) && Number.isFinite(row.high) ? ` [${write(row.low)}, ${write(row.high)}]` : "";
  return `${write(row.value)}${ends}`;
}

export function drawCategories(panel: Panel<Row>): SVGSVGElement | null {
  const { figure, rows, all, width } = panel;
  const { category, value } = categoryAxes(figure);
  const isBar = figure.kind === "bar";
  const log = value.scale === "log";
  const extra = [figure.reference_line ?? NaN, ...(figure.band ?? []), isBar && !log ? 0 : NaN];
  const found = domainOf([...all.flatMap((row) => [row.value, row.low, row.high]), ...extra], log);
  if (found === null) return null;
  const signs = all.flatMap((row) => [row.value, row.low, row.high]).filter(Number.isFinite);
  const [below, above] = [signs.some((number) => number < 0), signs.some((number) => number > 0)];
  const domain: Domain = isBar && !log ? [below ? found[0] : 0, above || !below ? found[1] : 0] : found; // bars stand on zero

  const categories = isBar ? distinct(all.map((row) => row.category)) : sorted(all);
  const single = figure.series === null || figure.series === category.column;
  const groups = single ? [""] : distinct(all.map((row) => row.series));
  const step = Math.max(isBar ? 24 : 25, groups.length * (isBar ? 13 : 11) + 10);
  const offset = (row: string): number =>
    single ? 0 : (groups.indexOf(row) - (groups.length - 1) / 2) * (isBar ? 13 : 11);

  const strong = (name: string): boolean => figure.highlight.includes(name);
  const widest = Math.max(...categories.map((name) => textWidth(name.slice(0, 200), strong(name))));
  const marginLeft = Math.ceil(Math.min(widest, width * (width < 480 ? 0.37 : 0.32))) + 12;
  const numeral = (row: Row): string => written(row, log ? show : (value) => showOn(value, domain[1] - domain[0]));
  const numerals = single && width >= 520;
  const marginRight = numerals
    ? Math.ceil(Math.max(...rows.map((row) => textWidth(numeral(row))))) + VALUE_GAP + 2
    : 14;
  const inner = width - marginLeft - marginRight;
  const [marginTop, marginBottom] = [6, 44];

  const ticks = ticksOf(value, domain, inner, true);
  const shown = rows.filter((row) => Number.isFinite(row.value) && !(log && row.value <= 0));
  const reference = figure.reference_line;
  const marks: Plot.Markish[] = [
    Plot.gridX({ ticks, stroke: "var(--grid)", strokeOpacity: 1 }),
    figure.band === null
      ? null
      : Plot.rect([figure.band], { x1: ([low]) => low, x2: ([, high]) => high, fill: "var(--band)" }),
    Plot.axisX({
      ticks,
      text: (tick: number) => show(tick),
      ...labelBelow(value, width, inner),
      labelOffset: 38,
      tickSize: 4,
    }),
    reference === null ? null : Plot.ruleX([reference], { stroke: "var(--ink-soft)", strokeDasharray: "4 3" }),
    ...[true, false].map((bold) =>
      Plot.text(
        categories.filter((name) => strong(name) === bold),
        {
          y: (name: string) => name,
          text: (name: string) => truncate(name, marginLeft - 12, bold),
          frameAnchor: "left",
          textAnchor: "end",
          dx: -8,
          fontWeight: bold ? 600 : 400,
          fill: "var(--ink)",
        },
      ),
    ),
  ];
  for (const series of paintOrder({ ...panel, rows: shown })) {
    const own = shown.filter((row) => row.series === series);
    const { colour, symbol, muted } = look(panel, series);
    const ranged = own.filter((row) => Number.isFinite(row.low) && Number.isFinite(row.high));
    const place = { y: (row: Row) => row.category, dy: offset(series) };
    const ends = { x1: (row: Row) => clamp(row.low, domain), x2: (row: Row) => clamp(row.high, domain) };
    if (isBar) {
      const start = log ? domain[0] : 0;
      marks.push(
        Plot.ruleY(own, {
          ...place,
          x1: () => start,
          x2: (row) => row.value,
          stroke: colour,
          strokeWidth: single ? 14 : 10,
          strokeOpacity: muted ? 0.7 : 0.9,
        }),
      );
      marks.push(Plot.ruleY(ranged, { ...place, ...ends, stroke: "var(--ink)", strokeWidth: 1.5 }));
    } else {
      marks.push(
        Plot.ruleY(ranged, {
          ...place,
          ...ends,
          stroke: colour,
          strokeWidth: muted ? 2 : 2.75,
          strokeLinecap: "round",
        }),
      );
      marks.push(
        Plot.dot(own, {
          ...place,
          x: (row) => row.value,
          fill: colour,
          symbol,
          r: muted ? 4 : 5,
          stroke: "var(--surface)",
          strokeWidth: 1.25,
        }),
      );
    }
  }
  if (numerals) {
    marks.push(
      Plot.text(rows, {
        y: (row) => row.category,
        text: numeral,
        frameAnchor: "right",
        textAnchor: "end",
        dx: marginRight - 2,
        fill: "var(--ink-soft)",
        fontVariant: "tabular-nums",
      }),
    );
  }
  const tip = (row: Row): string =>
    [row.category, single || row.series === "" ? null : row.series, say(row, value)]
      .filter((line) => line !== null)
      .join("\n");
  marks.push(
    Plot.tip(
      shown,
      Plot.pointerY({
        x: (row: Row) => row.value,
        y: (row: Row) => row.category,
        title: tip,
        fill: "var(--surface)",
        stroke: "var(--line)",
        lineWidth: 24,
        lineHeight: 1.3,
        maxRadius: 30,
      }),
    ),
  );
  return draw({
    width,
    height: categories.length * step + marginTop + marginBottom,
    marginLeft,
    marginRight,
    marginTop,
    marginBottom,
    x: { type: log ? "log" : "linear", domain: [...domain], axis: null },
    y: { type: "point", domain: categories, padding: 0.5, axis: null },
    marks,
  });
}
