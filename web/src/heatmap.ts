/** Heat maps: a cell per (x, y); one colour scale for all panels, diverging where the values have both signs. */
import * as Plot from "@observablehq/plot";

import { type Panel, draw, labelBelow } from "./chart.js";
import { type AxisSpec, type Figure, distinct, isNumeric, numbers, words } from "./data.js";
import { show, textWidth, thin, truncate } from "./text.js";

export interface Cell {
  readonly x: string;
  readonly y: string;
  readonly value: number;
  readonly series: string;
  readonly facet: string;
}

export interface Ramp {
  readonly low: number;
  readonly high: number;
  readonly diverging: boolean;
}

export function heatCells(figure: Figure): Cell[] {
  const [x, y, facet] = [words(figure, figure.x.column), words(figure, figure.y.column), words(figure, figure.facet)];
  return numbers(figure, "value").map((value, row) => ({
    x: x[row] ?? "",
    y: y[row] ?? "",
    value,
    series: "",
    facet: facet[row] ?? "",
  }));
}

/** The colour scale's ends: symmetric about zero where both signs occur. */
export function ramp(cells: readonly Cell[]): Ramp | null {
  let [low, high] = [Infinity, -Infinity];
  for (const { value } of cells) {
    if (!Number.isFinite(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) return null;
  const diverging = low < 0 && high > 0;
  if (diverging) {
    const size = Math.max(-low, high);
    return { low: -size, high: size, diverging };
  }
  return { low: low > 0 && low < high * 0.25 ? 0 : low, high, diverging };
}

function share(value: number, { low, high }: Ramp): number {
  return high === low ? 0.5 : (value - low) / (high - low);
}

/** The colour of a value: a mix of three stops of the stylesheet, so that it follows the colour scheme. */
export function colourOf(value: number, scale: Ramp): string {
  if (!Number.isFinite(value)) return "var(--missing)";
  const position = share(value, scale);
  const family = scale.diverging ? "diverging" : "sequential";
  const [from, to, part] = position < 0.5 ? [1, 2, position * 2] : [2, 3, position * 2 - 1];
  return `color-mix(in oklab, var(--${family}-${from}) ${(100 - part * 100).toFixed(1)}%, var(--${family}-${to}))`;
}

/** The ink that can be read on a value's colour. */
function inkOn(value: number, scale: Ramp): string {
  const position = share(value, scale);
  const deep = scale.diverging ? Math.abs(position - 0.5) > 0.3 : position > 0.5;
  return deep ? "var(--ink-on-deep)" : "var(--ink)";
}

interface BandAxis {
  readonly names: readonly string[];
  readonly ticks: string[];
  readonly numeric: boolean;
}

function bandAxis(figure: Figure, axis: AxisSpec, cells: readonly Cell[], pick: (cell: Cell) => string): BandAxis {
  const numeric = isNumeric(figure, axis.column);
  const names = distinct(cells.map(pick));
  if (numeric) names.sort((a, b) => Number(a) - Number(b));
  return { names, ticks: names, numeric };
}

const SLANT = -40;

export function drawHeatmap(panel: Panel<Cell>): SVGSVGElement | null {
  const { figure, rows, all, width } = panel;
  const scale = ramp(all);
  if (scale === null) return null;
  const across = bandAxis(figure, figure.x, all, (cell) => cell.x);
  const down = bandAxis(figure, figure.y, all, (cell) => cell.y);
  const label = (axis: BandAxis, name: string): string => (axis.numeric ? show(Number(name)) : name);

  const room = (axis: BandAxis): number =>
    Math.max(0, ...axis.names.map((name) => textWidth(label(axis, name).slice(0, 120))));
  const leftLabels = Math.min(Math.ceil(room(down)), Math.max(70, Math.floor(width * 0.26)));
  const marginLeft = leftLabels + 14;
  const most = across.numeric ? 44 : 84; // names beside each other, and numbers in the cells, where there is room
  const roomy = Math.max(3, Math.min(most, (width - marginLeft - 14) / across.names.length));
  const tallest = Math.max(down.names.length > 40 ? 3 : 14, Math.min(36, 640 / down.names.length));
  const square = across.numeric && down.numeric; // units against units
  const side = square ? Math.min(roomy, tallest) : roomy;
  const inner = side * across.names.length;
  const tall =
    (square || down.names.length > 40 ? Math.min(side, tallest) : Math.max(14, Math.min(side, tallest))) *
    down.names.length;

  const widest = room(across);
  const slanted = !across.numeric && widest + 6 > side;
  const bottomLabels = slanted ? Math.min(widest, 110) : 14;
  const marginBottom = Math.ceil(slanted ? bottomLabels * Math.sin((-SLANT * Math.PI) / 180) + 46 : 44);
  const xTicks = thin(across.names, inner, slanted ? 15 : Math.min(widest, 110) + 10);
  const yTicks = thin(down.names, tall, 15);
  const inset = side >= 13 && tall / down.names.length >= 13 ? 0.75 : 0;

  const overhang = slanted ? 0 : Math.ceil(Math.min(widest, 110) / 2);
  const drawn = marginLeft + inner + Math.max(14, overhang);
  const marks: Plot.Markish[] = [
    Plot.cell(rows, {
      x: (cell) => cell.x,
      y: (cell) => cell.y,
      fill: { value: (cell: Cell) => colourOf(cell.value, scale), scale: null } as Plot.ChannelValueSpec,
      inset,
      shapeRendering: inset === 0 ? "crispEdges" : undefined,
    }),
    Plot.axisX({
      ticks: xTicks,
      tickFormat: (name: string) => truncate(label(across, name), 110),
      tickRotate: slanted ? SLANT : 0,
      tickSize: 3,
      ...labelBelow(figure.x, marginLeft + inner, inner),
      labelOffset: marginBottom - 6,
    }),
    Plot.axisY({
      ticks: yTicks,
      tickFormat: (name: string) => truncate(label(down, name), leftLabels),
      tickSize: 3,
      label: truncate(figure.y.label, marginLeft + inner - 10),
      labelAnchor: "top",
      labelArrow: "none",
      color: "var(--ink-soft)",
    }),
  ];
  const longest = Math.max(...rows.map((cell) => textWidth(show(cell.value))));
  if (side > longest + 6 && tall / down.names.length >= 18) {
    for (const ink of distinct(rows.map((cell) => inkOn(cell.value, scale)))) {
      marks.push(
        Plot.text(
          rows.filter((cell) => inkOn(cell.value, scale) === ink),
          { x: (cell) => cell.x, y: (cell) => cell.y, text: (cell) => show(cell.value), fill: ink },
        ),
      );
    }
  }
  const title = (cell: Cell): string =>
    `${figure.x.label}: ${label(across, cell.x)}\n${figure.y.label}: ${label(down, cell.y)}\n${figure.value_label ?? "value"}: ${show(cell.value)}`;
  marks.push(
    Plot.tip(
      rows,
      Plot.pointer({
        x: (cell: Cell) => cell.x,
        y: (cell: Cell) => cell.y,
        title,
        fill: "var(--surface)",
        stroke: "var(--line)",
        lineWidth: 24,
        lineHeight: 1.3,
      }),
    ),
  );
  return draw({
    width: Math.ceil(drawn),
    height: Math.ceil(tall) + marginBottom + 26,
    marginLeft,
    marginRight: Math.ceil(drawn) - marginLeft - inner,
    marginTop: 26,
    marginBottom,
    x: { type: "band", domain: [...across.names], padding: 0, axis: null },
    y: { type: "band", domain: [...down.names], padding: 0, axis: null },
    marks,
  });
}
