/** One figure: its panels, laid out side by side where a facet splits it, its legend, and its redrawing. */
import { categoryAxes, categoryRows, type Panel } from "./chart.js";
import { drawCategories } from "./categories.js";
import { curvePoints, drawCurve } from "./curve.js";
import { type Figure, distinct } from "./data.js";
import { drawHeatmap, heatCells, ramp } from "./heatmap.js";
import { keyLine, rampLegend, seriesLegend } from "./legend.js";
import { type Palette, looks } from "./palette.js";
import { stepThrough } from "./steps.js";

const GAP = 28;
const NARROWEST = { interval: 340, bar: 340, curve: 260, heatmap: 230, steps: 230 } as const;
const MOST_LABELS = 24;

type Draw<R> = (panel: Panel<R>) => SVGSVGElement | null;

function note(text: string): HTMLElement {
  const made = document.createElement("p");
  made.className = "chart-note";
  made.textContent = text;
  return made;
}

function panels<R extends { readonly facet: string; readonly series: string }>(
  figure: Figure,
  rows: readonly R[],
  width: number,
  colours: Palette,
  draw: Draw<R>,
  legend: boolean,
): HTMLElement {
  const facets = distinct(rows.map((row) => row.facet));
  const grid = document.createElement("div");
  grid.className = "panels";
  const most = Math.max(1, Math.min(facets.length, Math.floor((width + GAP) / (NARROWEST[figure.kind] + GAP))));
  const columns = Math.ceil(facets.length / Math.ceil(facets.length / most)); // rows of nearly equal length
  const own = facets.length === 1 ? width : Math.floor((width - GAP * (columns - 1)) / columns);
  for (const facet of facets) {
    const cell = document.createElement("div");
    cell.className = "panel";
    cell.style.width = `${own}px`;
    if (figure.facet !== null) {
      const heading = document.createElement("p");
      heading.className = "panel-title";
      const name = document.createElement("bdi");
      name.textContent = facet;
      heading.append(name);
      cell.append(heading);
    }
    const drawn = draw({
      figure,
      rows: rows.filter((row) => row.facet === facet),
      all: rows,
      width: own,
      looks: looks(figure, colours),
      legend,
    });
    cell.append(drawn ?? note("No value here can be drawn; the table below says what was measured."));
    grid.append(cell);
  }
  return grid;
}

/** The parts of a figure's chart at a width. */
function parts(figure: Figure, width: number, colours: Palette): HTMLElement[] {
  if (figure.length === 0) return [note("No numbers yet.")];
  const known = looks(figure, colours);
  if (figure.kind === "heatmap") {
    const cells = heatCells(figure);
    const scale = ramp(cells);
    const grid = panels(figure, cells, width, colours, drawHeatmap, false);
    if (scale === null) return [grid];
    return [rampLegend(scale, figure.value_label ?? "value", cells), grid];
  }
  if (figure.kind === "curve") {
    const legend = figure.series !== null && (figure.facet !== null || width < 560 || known.size > MOST_LABELS);
    const grid = panels(figure, curvePoints(figure), width, colours, drawCurve, legend);
    return [legend ? seriesLegend(known, "line") : null, grid, keyLine(figure, known)].filter((part) => part !== null);
  }
  const legend = figure.series !== null && figure.series !== categoryAxes(figure).category.column;
  const grid = panels(figure, categoryRows(figure), width, colours, drawCategories, legend);
  const shape = figure.kind === "bar" ? "bar" : "dot";
  return [legend ? seriesLegend(known, shape) : null, grid, keyLine(figure, known)].filter((part) => part !== null);
}

/** Draws a figure into its place, and again whenever the place changes its width. */
export function mount(figure: Figure, place: HTMLElement, colours: Palette): void {
  let drawnAt = 0;
  const steps = figure.kind === "steps" && figure.length > 0 ? stepThrough(figure) : null;
  if (steps !== null) place.replaceChildren(steps.element);
  const redraw = (): void => {
    const width = Math.floor(place.clientWidth);
    if (width === drawnAt || width < 40) return;
    drawnAt = width;
    if (steps === null) place.replaceChildren(...parts(figure, width, colours));
    else steps.draw(width);
  };
  redraw();
  place.setAttribute("role", steps === null ? "img" : "group"); // an image has no controls in it
  place.setAttribute("aria-label", `Chart: ${figure.title}. ${figure.caption}`);
  let frame = 0;
  new ResizeObserver(() => {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(redraw);
  }).observe(place);
}
