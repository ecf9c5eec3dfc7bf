/** Curves: a line per series with its band; names at the line ends where there is room. */
import * as Plot from "@observablehq/plot";

import {
  type Domain,
  type Panel,
  clamp,
  domainOf,
  draw,
  labelBelow,
  labelRoom,
  look,
  paintOrder,
  ticksOf,
} from "./chart.js";
import { type Figure, distinct, isNumeric, numbers, words } from "./data.js";
import { show, showTicks, textWidth, thin, truncate } from "./text.js";

export interface Point {
  readonly x: number;
  readonly y: number;
  readonly low: number;
  readonly high: number;
  readonly series: string;
  readonly facet: string;
}

const LINE_HEIGHT = 15;
const MARKER_LIMIT = 14;

interface Categories {
  readonly names: readonly string[];
}

/** Names along x where x is no number: a point then stands at the index of its name. */
function xCategories(figure: Figure): Categories | null {
  if (figure.x.scale !== "category" && isNumeric(figure, figure.x.column)) return null;
  return { names: distinct(words(figure, figure.x.column)) };
}

export function curvePoints(figure: Figure): Point[] {
  const categories = xCategories(figure);
  const named = words(figure, figure.x.column);
  const x =
    categories === null ? numbers(figure, figure.x.column) : named.map((name) => categories.names.indexOf(name));
  const y = numbers(figure, figure.y.column);
  const [low, high] = [numbers(figure, "low"), numbers(figure, "high")];
  const series = words(figure, figure.series);
  const facet = words(figure, figure.facet);
  return x.map((value, row) => ({
    x: value,
    y: y[row] ?? NaN,
    low: low[row] ?? NaN,
    high: high[row] ?? NaN,
    series: series[row] ?? "",
    facet: facet[row] ?? "",
  }));
}

/** Moves labels apart, each as near to where it belongs as the order allows. */
export function dodge(wanted: readonly number[], gap: number, [top, bottom]: Domain): number[] {
  const order = wanted.map((_, index) => index).sort((a, b) => (wanted[a] ?? 0) - (wanted[b] ?? 0));
  const placed = new Array<number>(wanted.length);
  let previous = top - gap;
  for (const index of order) {
    previous = Math.max(wanted[index] ?? top, previous + gap);
    placed[index] = previous;
  }
  let next = bottom + gap;
  for (const index of order.reverse()) {
    next = Math.min(placed[index] ?? bottom, next - gap);
    placed[index] = next;
  }
  return placed;
}

function svgElement(name: string, attributes: Readonly<Record<string, string | number>>, text = ""): SVGElement {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  element.textContent = text;
  return element;
}

/** Height of the drawing that a figure with so many direct labels needs. */
function heightFor(series: number, width: number): number {
  const labels = series * LINE_HEIGHT + 60;
  return Math.round(Math.max(Math.min(width * 0.56, 380), Math.min(labels, 460), 240));
}

export function drawCurve(panel: Panel<Point>): SVGSVGElement | null {
  const { figure, all, rows, width, legend } = panel;
  const [logX, logY] = [figure.x.scale === "log", figure.y.scale === "log"];
  const usable = (point: Point): boolean => Number.isFinite(point.x) && !(logX && point.x <= 0);
  const drawable = (point: Point): boolean => usable(point) && Number.isFinite(point.y) && !(logY && point.y <= 0);
  const everything = all.filter(usable);
  const coloured = (point: Point): boolean => !look(panel, point.series).muted;
  const banded = everything.filter(
    (point) => coloured(point) && Number.isFinite(point.low) && Number.isFinite(point.high),
  );
  const xDomain = domainOf(
    everything.map((point) => point.x),
    logX,
    0.015,
  );
  const yDomain = domainOf(
    [
      ...everything.map((point) => point.y),
      ...banded.flatMap((point) => [point.low, point.high]),
      figure.reference_line ?? NaN,
    ],
    logY,
  );
  if (xDomain === null || yDomain === null) return null;

  const points = rows.filter(usable).sort((a, b) => a.x - b.x);
  const ends = new Map<string, Point>();
  for (const point of points) if (drawable(point)) ends.set(point.series, point);
  const named = legend ? [] : [...ends.keys()].filter((name) => name !== "");
  const height = heightFor(named.length, width);
  const [marginTop, marginBottom] = [26, 46];
  const marginLeft = Math.ceil(labelRoom(yDomain, logY)) + 14;
  const strong = (name: string): boolean => look(panel, name).strong;
  const labelWidth = Math.min(
    Math.max(0, ...named.map((name) => textWidth(name.slice(0, 200), strong(name)))),
    width * 0.26,
  );
  const marginRight = named.length === 0 ? 14 : Math.ceil(labelWidth) + 26;
  const inner = width - marginLeft - marginRight;
  const frame: Domain = [marginTop, height - marginBottom];

  const categories = xCategories(figure);
  const nameAt = (x: number): string => categories?.names[x] ?? "";
  const longest = Math.max(0, ...(categories?.names ?? []).map((name) => textWidth(name.slice(0, 80))));
  const xTicks =
    categories === null
      ? { ticks: ticksOf(figure.x, xDomain, inner, true), text: (x: number) => show(x) }
      : {
          ticks: thin(
            categories.names.map((_, index) => index),
            inner,
            Math.min(longest, 90) + 10,
          ),
          text: (x: number) => truncate(nameAt(x), 90),
        };
  const ticks = ticksOf(figure.y, yDomain, frame[1] - frame[0], false);
  const marks: Plot.Markish[] = [
    Plot.gridY({ ticks, stroke: "var(--grid)", strokeOpacity: 1 }),
    figure.band === null
      ? null
      : Plot.rect([figure.band], { y1: ([low]) => low, y2: ([, high]) => high, fill: "var(--band)", clip: true }),
    Plot.axisX({ ...xTicks, ...labelBelow(figure.x, width, inner), labelOffset: 38, tickSize: 4 }),
    Plot.axisY({
      ticks,
      text: showTicks(ticks),
      label: truncate(figure.y.label, width - 10),
      labelAnchor: "top",
      labelArrow: "none",
      tickSize: 0,
      color: "var(--ink-soft)",
    }),
    figure.reference_line === null
      ? null
      : Plot.ruleY([figure.reference_line], { stroke: "var(--ink-soft)", strokeDasharray: "4 3" }),
  ];
  const order = paintOrder({ ...panel, rows: points });
  const sparse = distinct(points.map((point) => point.x)).length <= MARKER_LIMIT;
  for (const series of order.filter((name) => !look(panel, name).muted)) {
    const own = points.filter((point) => point.series === series);
    const bounded = (point: Point): boolean =>
      drawable(point) && Number.isFinite(point.low) && Number.isFinite(point.high);
    const edge = (point: Point, value: number): number => (bounded(point) ? clamp(value, yDomain) : NaN); // a gap, not a bridge
    marks.push(
      Plot.areaY(own, {
        x: (point) => point.x,
        y1: (point) => edge(point, point.low),
        y2: (point) => edge(point, point.high),
        fill: look(panel, series).colour,
        fillOpacity: 0.16,
        clip: true,
      }),
    );
  }
  for (const series of order) {
    const own = points.filter((point) => point.series === series);
    const { colour, dash, symbol, muted, strong: bold } = look(panel, series);
    const at = { x: (point: Point) => point.x, y: (point: Point) => (drawable(point) ? point.y : NaN) };
    marks.push(
      Plot.lineY(own, {
        ...at,
        stroke: colour,
        strokeWidth: muted ? 1.25 : bold ? 2.5 : 2,
        strokeOpacity: muted ? 0.85 : 1,
        strokeDasharray: dash,
        clip: true,
      }),
    );
    if (sparse || own.length === 1) {
      marks.push(
        Plot.dot(own.filter(drawable), {
          ...at,
          fill: colour,
          symbol,
          r: muted ? 2.25 : 3.75,
          stroke: "var(--surface)",
          strokeWidth: muted ? 0 : 1,
        }),
      );
    }
  }
  const title = (point: Point): string => {
    const band =
      Number.isFinite(point.low) && Number.isFinite(point.high) ? ` [${show(point.low)}, ${show(point.high)}]` : "";
    const x = categories === null ? show(point.x) : nameAt(point.x);
    return [point.series, `${figure.x.label}: ${x}`, `${figure.y.label}: ${show(point.y)}${band}`]
      .filter((line) => line !== "")
      .join("\n");
  };
  marks.push(
    Plot.tip(
      points.filter(drawable),
      Plot.pointer({
        x: (point: Point) => point.x,
        y: (point: Point) => point.y,
        title,
        fill: "var(--surface)",
        stroke: "var(--line)",
        lineWidth: 24,
        lineHeight: 1.3,
      }),
    ),
  );
  const svg = draw({
    width,
    height,
    marginLeft,
    marginRight,
    marginTop,
    marginBottom,
    x: { type: logX ? "log" : "linear", domain: [...xDomain], axis: null },
    y: { type: logY ? "log" : "linear", domain: [...yDomain], axis: null },
    marks,
  });
  const scale = (value: number): number => {
    const [low, high, own] = logY
      ? ([yDomain[0], yDomain[1], value].map(Math.log10) as [number, number, number])
      : [yDomain[0], yDomain[1], value];
    return frame[1] - ((own - low) / (high - low)) * (frame[1] - frame[0]);
  };
  const across = (value: number): number => {
    const [low, high, own] = logX
      ? ([xDomain[0], xDomain[1], value].map(Math.log10) as [number, number, number])
      : [xDomain[0], xDomain[1], value];
    return marginLeft + ((own - low) / (high - low)) * inner;
  };
  const heights = named.map((name) => scale(ends.get(name)?.y ?? NaN));
  const placed = dodge(heights, Math.min(LINE_HEIGHT, (frame[1] - frame[0]) / Math.max(1, named.length - 1)), frame);
  const left = width - marginRight;
  named.forEach((name, index) => {
    const { colour, strong: bold, muted } = look(panel, name);
    const [from, to] = [heights[index] ?? 0, placed[index] ?? 0];
    const start = across(ends.get(name)?.x ?? xDomain[1]) + 4;
    svg.append(
      svgElement("path", {
        d: `M${start},${from}L${left + 6},${from}L${left + 18},${to}`,
        fill: "none",
        stroke: colour,
        "stroke-width": 1,
        "stroke-opacity": 0.75,
      }),
      svgElement(
        "text",
        {
          x: left + 22,
          y: to,
          dy: "0.32em",
          "text-anchor": "start",
          fill: muted ? "var(--ink-soft)" : "var(--ink)",
          "font-weight": bold ? 600 : 400,
        },
        truncate(name, labelWidth + 2, bold),
      ),
    );
  });
  return svg;
}
