/** Legends beside a chart: names with their line, dash and symbol; the colour scale of a heat map. */
import * as Plot from "@observablehq/plot";

import { draw } from "./chart.js";
import { type Figure } from "./data.js";
import { type Ramp, colourOf } from "./heatmap.js";
import { type Look } from "./palette.js";
import { show } from "./text.js";

function element(name: string, className: string, text = ""): HTMLElement {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

type Shape = "line" | "dot" | "bar";

function swatch({ colour, dash, symbol }: Look, shape: Shape): SVGSVGElement {
  const line = shape === "line";
  return draw({
    width: line ? 30 : 14,
    height: 14,
    margin: 0,
    axis: null,
    x: { type: "linear", domain: [0, 1] },
    y: { type: "linear", domain: [0, 1] },
    marks: [
      line ? Plot.ruleY([0.5], { stroke: colour, strokeWidth: 2, strokeDasharray: dash }) : null,
      Plot.dot([0.5], {
        x: () => 0.5,
        y: () => 0.5,
        fill: colour,
        symbol: shape === "bar" ? "square" : symbol,
        r: 4.5,
      }),
    ],
  });
}

/** A list of series; grey ones are counted, not listed, where there are many. */
export function seriesLegend(looks: ReadonlyMap<string, Look>, shape: Shape): HTMLElement {
  const list = element("ul", "legend");
  const muted = [...looks].filter(([, look]) => look.muted);
  for (const [name, look] of looks) {
    if (look.muted && muted.length > 1) continue;
    const item = element("li", look.strong ? "strong" : "");
    item.append(swatch(look, shape), element("bdi", "legend-name", name));
    list.append(item);
  }
  const [first] = muted;
  if (first !== undefined && muted.length > 1) {
    const item = element("li", "");
    item.append(
      swatch({ ...first[1], symbol: "circle" }, shape),
      element("span", "legend-name", `${muted.length} others`),
    );
    list.append(item);
  }
  return list;
}

/** What the lines and shades of a chart mean, in words; null where there are none. */
export function keyLine(figure: Figure, looks: ReadonlyMap<string, Look>): HTMLElement | null {
  const { reference_line, band, kind } = figure;
  const parts = [
    reference_line === null ? null : `Dashed line: ${show(reference_line)}.`,
    band === null ? null : `Shaded: ${show(band[0])} to ${show(band[1])}, practically equal.`,
    kind === "curve" && [...looks.values()].some((look) => look.muted)
      ? "Grey: the others, without their bands."
      : null,
  ].filter((part) => part !== null);
  return parts.length === 0 ? null : element("p", "key", parts.join(" "));
}

const STEPS = 48;

/** The colour scale of a heat map, and the colour of cells without a value where there are some. */
export function rampLegend(scale: Ramp, label: string, cells: readonly { readonly value: number }[]): HTMLElement {
  const box = element("div", "ramp");
  const width = 180;
  const end = (value: number): string => show(Number(value.toPrecision(3)));
  const bar = draw({
    width,
    height: 12,
    margin: 0,
    axis: null,
    x: { type: "linear", domain: [0, STEPS] },
    marks: [
      Plot.rectX(
        Array.from({ length: STEPS }, (_, step) => step),
        {
          x1: (step: number) => step,
          x2: (step: number) => step + 1.2,
          fill: {
            value: (step: number) => colourOf(scale.low + ((step + 0.5) / STEPS) * (scale.high - scale.low), scale),
            scale: null,
          } as Plot.ChannelValueSpec,
        },
      ),
    ],
  });
  box.append(
    element("span", "ramp-label", label),
    element("span", "", end(scale.low)),
    bar,
    element("span", "", end(scale.high)),
  );
  if (cells.some(({ value }) => !Number.isFinite(value))) {
    const missing = { colour: "var(--missing)", dash: undefined, symbol: "square", muted: false, strong: false } as const;
    box.append(swatch(missing, "bar"), element("span", "", "no value"));
  }
  return box;
}
