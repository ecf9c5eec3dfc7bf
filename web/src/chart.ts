/** What all charts share: rows, domains, axes, and an SVG that a strict content security policy lets in. */
import * as Plot from "@observablehq/plot";

import { type AxisSpec, type Figure, distinct, numbers, words } from "./data.js";
import { type Look } from "./palette.js";
import { font, logTicks, show, textWidth, truncate } from "./text.js";

export interface Row {
  readonly category: string;
  readonly value: number;
  readonly low: number;
  readonly high: number;
  readonly series: string;
  readonly facet: string;
}

/** What a chart is drawn with: one panel of a figure at one width. */
export interface Panel<R> {
  readonly figure: Figure;
  readonly rows: readonly R[];
  readonly all: readonly R[];
  readonly width: number;
  readonly looks: ReadonlyMap<string, Look>;
  /** Whether a legend stands above the chart, so that the chart needs no names in it. */
  readonly legend: boolean;
}

export type Domain = readonly [number, number];

const FALLBACK: Look = { colour: "var(--series-1)", dash: undefined, symbol: "circle", muted: false, strong: false };

export function look(panel: Panel<unknown>, series: string): Look {
  return panel.looks.get(series) ?? FALLBACK;
}

/** Series in the order in which they are painted: grey ones first, highlighted ones on top. */
export function paintOrder(panel: Panel<{ readonly series: string }>): string[] {
  const rank = (name: string): number => Number(!look(panel, name).muted) + Number(look(panel, name).strong);
  return distinct(panel.rows.map((row) => row.series)).sort((a, b) => rank(a) - rank(b));
}

/** The axis that holds categories and the axis that holds their values. */
export function categoryAxes(figure: Figure): { category: AxisSpec; value: AxisSpec } {
  const swapped = figure.x.scale === "category" && figure.y.scale !== "category";
  return swapped ? { category: figure.x, value: figure.y } : { category: figure.y, value: figure.x };
}

/** Rows of a chart with a value (and an interval) per category. */
export function categoryRows(figure: Figure): Row[] {
  const { category, value } = categoryAxes(figure);
  const names = words(figure, category.column);
  const values = numbers(figure, value.column);
  const [low, high] = [numbers(figure, "low"), numbers(figure, "high")];
  const series = words(figure, figure.series);
  const facet = words(figure, figure.facet);
  return names.map((name, row) => ({
    category: name,
    value: values[row] ?? NaN,
    low: low[row] ?? NaN,
    high: high[row] ?? NaN,
    series: series[row] ?? "",
    facet: facet[row] ?? "",
  }));
}

/** The range of what can be shown on a scale, with a little air; null where nothing can be shown. */
export function domainOf(values: Iterable<number>, log: boolean, air = 0.04): Domain | null {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (!Number.isFinite(value) || (log && value <= 0)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) return null;
  if (log) {
    const ratio = low === high ? 2 : (high / low) ** air;
    return [low / ratio, high * ratio];
  }
  const room = low === high ? Math.max(Math.abs(low), 1) * 0.1 : (high - low) * air;
  return [low - room, high + room];
}

export function clamp(value: number, [low, high]: Domain): number {
  return Math.min(Math.max(value, low), high);
}

/** The ticks that fit beside each other on a numeric axis of so many pixels, lying or standing. */
export function ticksOf(axis: AxisSpec, domain: Domain, pixels: number, lying: boolean): number[] | number {
  if (axis.scale !== "log")
    return Math.max(2, Math.min(8, Math.floor(pixels / (lying ? labelRoom(domain, false) + 26 : 40))));
  const room = (count: number): number =>
    lying ? Math.max(...logTicks(domain, count).map((tick) => textWidth(show(tick)))) + 18 : 24;
  let count = 12;
  while (count > 2 && logTicks(domain, count).length * room(count) > pixels) count -= 1;
  return logTicks(domain, count);
}

/** The label below a lying axis: in the middle, or ending at the right edge where it is wider than the axis. */
export function labelBelow(
  axis: AxisSpec,
  width: number,
  inner: number,
): { label: string; labelAnchor: "center" | "right"; labelArrow: "none"; color: string } {
  const label = truncate(axis.label, width - 10);
  return {
    label,
    labelAnchor: textWidth(label) > inner ? "right" : "center",
    labelArrow: "none",
    color: "var(--ink-soft)",
  };
}

/** Width of the widest label among the ends of a domain: the room that a vertical axis needs. */
export function labelRoom(domain: Domain, log: boolean): number {
  const samples = log
    ? logTicks(domain, 8)
    : [domain[0], domain[1], (domain[0] + domain[1]) / 2].map((value) => Number(value.toPrecision(3)));
  return Math.max(28, ...samples.map((value) => textWidth(show(value))));
}

/** Draws, and takes out the style element that Plot writes into the SVG: its rules stand in the page's stylesheet. */
export function draw(options: Plot.PlotOptions): SVGSVGElement {
  const node = Plot.plot({ className: "plot", style: font, ...options });
  const svg = node instanceof SVGSVGElement ? node : node.querySelector("svg");
  if (svg === null) throw new Error("Plot drew no svg");
  for (const style of svg.querySelectorAll("style")) style.remove();
  svg.setAttribute("aria-hidden", "true"); // the figure's own label, caption and table speak for it
  for (const part of svg.querySelectorAll("[aria-label]")) part.removeAttribute("aria-label");
  return svg;
}

export function say(row: Row, value: AxisSpec): string {
  const interval =
    Number.isFinite(row.low) && Number.isFinite(row.high) ? ` [${show(row.low)}, ${show(row.high)}]` : "";
  return `${value.label}: ${show(row.value)}${interval}`;
}
