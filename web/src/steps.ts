/** Step-through of a machine over time: panels with one cursor, and matrices as they are at the current step.
 *
 * Every view is of a traced tensor; nothing is computed here but layout. A step is drawn at once, without a transition.
 * Play starts only when it is asked to, and goes slower where the reader prefers reduced motion.
 */
import { type Cell, type Figure, type StepsPanel, distinct, panelNumbers } from "./data.js";
import { type Ramp, colourOf } from "./heatmap.js";
import { show, textWidth, thin, truncate } from "./text.js";

const SHADES = 64;
const TOP = 6; // the cursor's arrow stands there
const AXIS = 40;
const GAP = 28;
const LINE = 14; // pixels between labels of rows
const FEW = 24;
const STRIP = 14; // a head's weights beside the memory
const PITCH = 19;
const PLAY = 500; // milliseconds a step
const PLAY_CALMLY = 1500;

interface View {
  readonly panel: StepsPanel;
  readonly name: string;
  readonly rows: readonly string[];
  readonly values: Float64Array;
}

interface Drawn {
  readonly element: HTMLElement;
  readonly show: (step: number) => void;
}

function html(name: string, className: string, text = ""): HTMLElement {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

function svg(name: string, attributes: Record<string, string | number>, text = ""): SVGElement {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  if (text !== "") made.textContent = text;
  return made;
}

/** The outermost element of a picture: `aria-hidden`, as the live line, the caption and the table speak for it. */
function picture(width: number, height: number): SVGElement {
  const size = { width: Math.ceil(width), height: Math.ceil(height) };
  return svg("svg", { class: "plot", ...size, viewBox: `0 0 ${size.width} ${size.height}`, "aria-hidden": "true" });
}

function label(x: number, y: number, text: string, attributes: Record<string, string | number> = {}): SVGElement {
  return svg("text", { x, y, fill: "var(--ink-soft)", "font-size": 12, ...attributes }, text);
}

const word = (cell: Cell): string => (typeof cell === "number" ? show(cell) : String(cell ?? ""));

/** One colour scale for a panel in all series: 0 to 1 where it stays there, else its range, about zero if it has both signs. */
function rampOf(panels: readonly StepsPanel[]): Ramp {
  const low = Math.min(...panels.map((panel) => panel.low));
  const high = Math.max(...panels.map((panel) => panel.high));
  if (low >= 0 && high <= 1) return { low: 0, high: 1, diverging: false };
  const size = Math.max(-low, high);
  return low < 0 && high > 0 ? { low: -size, high: size, diverging: true } : { low, high, diverging: false };
}

/** A grid of cells as one path a shade: equal neighbours in a row are one rectangle. */
function cells(
  columns: number,
  rows: number,
  value: (row: number, column: number) => number,
  ramp: Ramp,
  [x, y, wide, tall]: readonly [number, number, number, number],
): SVGElement {
  const paths = new Map<number, string[]>();
  const shade = (row: number, column: number): number => {
    const one = value(row, column);
    if (!Number.isFinite(one)) return -1;
    const share = ramp.high === ramp.low ? 0.5 : (one - ramp.low) / (ramp.high - ramp.low);
    return Math.round(share * (SHADES - 1));
  };
  for (let row = 0; row < rows; row += 1) {
    for (let start = 0; start < columns; ) {
      const one = shade(row, start);
      let end = start + 1;
      while (end < columns && shade(row, end) === one) end += 1;
      const run = `M${start} ${row}h${end - start}v1h${start - end}z`;
      const known = paths.get(one);
      if (known === undefined) paths.set(one, [run]);
      else known.push(run);
      start = end;
    }
  }
  const group = svg("g", { transform: `translate(${x},${y}) scale(${wide},${tall})`, "shape-rendering": "crispEdges" });
  for (const [one, runs] of paths) {
    const fill = one < 0 ? "var(--missing)" : colourOf(ramp.low + (one / (SHADES - 1)) * (ramp.high - ramp.low), ramp);
    group.append(svg("path", { d: runs.join(""), fill, "data-shade": one }));
  }
  return group;
}

/** A panel's name and its colours. */
function heading(name: string, ramp: Ramp, missing: boolean): { element: HTMLElement; name: HTMLElement } {
  const element = html("div", "steps-head");
  const title = html("p", "panel-title");
  const bdi = html("bdi", "", name);
  title.append(bdi);
  const scale = html("p", "steps-scale");
  const bar = picture(48, 10);
  bar.append(
    cells(12, 1, (_, column) => ramp.low + ((column + 0.5) / 12) * (ramp.high - ramp.low), ramp, [0, 0, 4, 10]),
  );
  const end = (value: number): string => show(Number(value.toPrecision(2)));
  scale.append(html("span", "", end(ramp.low)), bar, html("span", "", end(ramp.high)));
  if (missing) {
    const none = picture(10, 10);
    none.append(svg("rect", { width: 10, height: 10, fill: "var(--missing)" }));
    scale.append(none, html("span", "", "no value"));
  }
  element.append(title, scale);
  return { element, name: bdi };
}

function rowLabels(rows: readonly string[], tall: number, left: number, top: number): SVGElement[] {
  return thin(rows, tall * rows.length, LINE).map((row) =>
    label(left - 6, top + (rows.indexOf(row) + 0.5) * tall, truncate(row, left - 8), {
      "text-anchor": "end",
      "dominant-baseline": "central",
    }),
  );
}

/** The cell of a picture under the pointer; null outside of the cells. */
function cellAt(
  event: MouseEvent,
  target: SVGElement,
  [x, y, wide, tall]: readonly [number, number, number, number],
  columns: number,
  rows: number,
): { row: number; column: number } | null {
  const box = target.getBoundingClientRect();
  const scale = Number(target.getAttribute("width")) / box.width;
  const column = Math.floor(((event.clientX - box.left) * scale - x) / wide);
  const row = Math.floor(((event.clientY - box.top) * scale - y) / tall);
  return row >= 0 && row < rows && column >= 0 && column < columns ? { row, column } : null;
}

/** The step-through of a figure: an element, and how it is drawn at a width. */
export function stepThrough(figure: Figure): { element: HTMLElement; draw: (width: number) => void } {
  const arms = distinct(figure.panels.map(({ series }) => series));
  const ramps = new Map(
    distinct(figure.panels.map(({ name }) => name)).map((name) => [
      name,
      rampOf(figure.panels.filter((panel) => panel.name === name)),
    ]),
  );
  const highlighted = (view: View): boolean => figure.highlight.includes(view.name);
  let arm = arms[0] ?? null;
  let views: View[] = [];
  let steps: readonly Cell[] = [];
  let step = 0;
  let width = 0;
  let drawn: Drawn[] = [];
  let timer = 0;

  const element = html("div", "steps");
  const controls = html("div", "steps-controls");
  const now = html("p", "steps-now");
  const under = html("p", "steps-under");
  const board = html("div", "steps-board");
  under.setAttribute("aria-hidden", "true");
  now.setAttribute("aria-live", "polite");
  element.append(controls, now, board, under);

  const ramp = (view: View): Ramp => ramps.get(view.panel.name) ?? { low: 0, high: 1, diverging: false };
  const valueAt = ({ panel, values }: View, row: number, at: number, column = 0): number =>
    values[(row * panel.steps.length + at) * (panel.width ?? 1) + column] ?? NaN;
  const rowName = (view: View, row: number): string => {
    const cell = view.panel.rows[row] ?? null;
    if (typeof cell !== "number") return word(cell);
    return `${views.some((other) => highlighted(other) && sameRows(other, view)) ? figure.y.label : "row"} ${show(cell)}`;
  };

  function choose(): void {
    views = figure.panels
      .filter(({ series }) => series === arm)
      .map((panel) => ({ panel, name: String(panel.name), rows: panel.rows.map(word), values: panelNumbers(panel) }));
    steps = views.map(({ panel }) => panel.steps).reduce((a, b) => (b.length > a.length ? b : a), []);
    step = Math.min(step, steps.length - 1);
    slider.max = String(steps.length - 1);
  }

  /** The largest cell of a highlighted panel, in words. */
  function largest(view: View): string {
    let best = -1;
    for (let row = 0; row < view.rows.length; row += 1) {
      const value = valueAt(view, row, step);
      if (Number.isFinite(value) && (best < 0 || value > valueAt(view, best, step))) best = row;
    }
    return best < 0 ? "" : `${view.name}, ${rowName(view, best)} (${show(round(valueAt(view, best, step), view.panel))})`;
  }

  const stepName = (at: number): string => {
    const [name, last] = [word(steps[at] ?? null), word(steps.at(-1) ?? null)];
    return `${figure.x.label} ${name} of ${last}`;
  };

  function update(): void {
    for (const one of drawn) one.show(step);
    const found = views.filter(highlighted).map(largest).filter((text) => text !== "");
    now.textContent = `${stepName(step)}.${found.length > 0 ? ` Largest: ${found.join("; ")}.` : ""}`;
    slider.value = String(step);
    slider.setAttribute("aria-valuetext", stepName(step));
    for (const [made, edge] of [[first, 0], [previous, 0], [next, steps.length - 1], [last, steps.length - 1]] as const)
      made.setAttribute("aria-disabled", String(step === edge)); // not `disabled`, which would lose the focus
    element.dataset["step"] = String(step);
  }

  function go(to: number): void {
    step = Math.min(Math.max(to, 0), steps.length - 1);
    update();
  }

  function stop(): void {
    clearInterval(timer);
    timer = 0;
    play.textContent = "Play";
    now.setAttribute("aria-live", "polite");
  }

  function start(): void {
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (step === steps.length - 1) go(0);
    play.textContent = "Pause";
    now.setAttribute("aria-live", "off"); // a voice cannot follow
    timer = window.setInterval(
      () => {
        go(step + 1);
        if (step === steps.length - 1) stop();
      },
      calm ? PLAY_CALMLY : PLAY,
    );
  }

  function button(text: string, action: () => void): HTMLButtonElement {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    made.addEventListener("click", action);
    return made;
  }

  const move = (to: () => number) => (): void => {
    stop();
    go(to());
  };
  const first = button("First", move(() => 0));
  const previous = button("Previous", move(() => step - 1));
  const play = button("Play", () => (timer === 0 ? start() : stop()));
  const next = button("Next", move(() => step + 1));
  const last = button("Last", move(() => steps.length - 1));
  const slider = document.createElement("input");
  slider.type = "range";
  slider.min = "0";
  slider.setAttribute("aria-label", figure.x.label);
  slider.addEventListener("input", move(() => Number(slider.value)));
  const buttons = html("div", "steps-buttons");
  buttons.append(first, previous, play, next, last);
  if (arms.length > 1) controls.append(selector());
  controls.append(buttons, slider);
  controls.setAttribute("role", "group");
  controls.setAttribute("aria-label", `Steps of: ${figure.title}`);
  element.addEventListener("keydown", (event) => {
    if (event.target instanceof HTMLSelectElement || event.target === slider) return; // they have their own
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const wanted = { ArrowLeft: step - 1, ArrowRight: step + 1, Home: 0, End: steps.length - 1 }[event.key];
    if (wanted === undefined) return;
    event.preventDefault();
    stop();
    go(wanted);
  });

  function selector(): HTMLElement {
    const box = html("label", "steps-arm", `${figure.series ?? ""} `);
    const select = document.createElement("select");
    for (const [index, name] of arms.entries()) {
      const option = document.createElement("option");
      option.value = String(index);
      option.textContent = word(name);
      select.append(option);
    }
    select.addEventListener("change", () => {
      arm = arms[Number(select.value)] ?? null;
      choose();
      draw(width);
    });
    box.append(select);
    return box;
  }

  function point(view: View, at: number, row: number, column: number | null): void {
    const place = `${rowName(view, row)}${column === null ? "" : `, column ${column + 1}`}`;
    const value = valueAt(view, row, at, column ?? 0);
    const text = Number.isFinite(value) ? show(round(value, view.panel)) : "no value";
    under.textContent = `${view.name}, ${figure.x.label} ${word(steps[at] ?? null)}, ${place}: ${text}`;
  }

  function overTime(view: View, left: number, inner: number, axis: boolean): Drawn {
    const count = view.panel.steps.length;
    const wide = inner / steps.length >= 2 ? Math.min(22, Math.floor(inner / steps.length)) : inner / steps.length;
    const named = view.rows.length <= FEW && view.panel.rows.some((row) => typeof row === "string"); // every name stands
    const tall = named ? LINE : Math.min(11, Math.max(2, Math.floor(230 / view.rows.length)));
    const frame = [left, TOP, wide, tall] as const;
    const height = tall * view.rows.length;
    const node = picture(left + Math.max(wide * steps.length, 30) + 14, height + TOP + (axis ? AXIS : 4));
    const cursor = svg("g", { class: "cursor" });
    const box = { x: left - 1, y: TOP - 1, width: wide + 2, height: height + 2, fill: "none" };
    cursor.append(
      svg("rect", { ...box, stroke: "var(--surface)", "stroke-width": 3.5 }),
      svg("rect", { ...box, stroke: "var(--ink)", "stroke-width": 1.5 }),
      svg("path", { d: `M${left + wide / 2 - 4} 0h8l-4 ${TOP - 1}z`, fill: "var(--ink)" }),
    );
    node.append(
      ...rowLabels(view.rows, tall, left, TOP),
      cells(count, view.rows.length, (row, at) => valueAt(view, row, at), ramp(view), frame),
    );
    if (axis) {
      const names = steps.map(word);
      const room = Math.max(...names.map((name) => textWidth(name))) + 10;
      for (const at of thin([...names.keys()], wide * names.length, room)) {
        const x = left + (at + 0.5) * wide;
        node.append(label(x, TOP + height + 15, names[at] ?? "", { "text-anchor": "middle" }));
      }
      node.append(label(left, TOP + height + 34, figure.x.label));
    }
    node.append(cursor);
    node.addEventListener("pointermove", (event) => {
      const found = cellAt(event, node, frame, count, view.rows.length);
      if (found !== null) point(view, found.column, found.row, null);
    });
    node.addEventListener("click", (event) => {
      const found = cellAt(event, node, frame, count, view.rows.length);
      if (found === null) return;
      stop();
      go(found.column);
    });
    const whole = html("div", "steps-panel");
    whole.append(heading(view.name, ramp(view), view.panel.missing).element, node);
    return { element: whole, show: (at) => cursor.setAttribute("transform", `translate(${at * wide},0)`) };
  }

  function atStep(view: View, left: number, inner: number): Drawn {
    const columns = view.panel.width ?? 1;
    const beside = views.filter((other) => highlighted(other) && sameRows(other, view));
    const names = beside.map(({ name }) => truncate(name, 150));
    const slope = Math.PI / 4;
    const top = names.length > 0 ? Math.ceil(Math.max(...names.map((name) => textWidth(name))) * Math.sin(slope)) + 16 : TOP;
    const start = left + beside.length * PITCH + (beside.length > 0 ? 4 : 0);
    const room = Math.max(40, inner - (start - left));
    const wide = room / columns >= 2 ? Math.min(18, Math.floor(room / columns)) : room / columns;
    const tall = Math.min(14, Math.max(3, Math.floor(480 / view.rows.length)));
    const frame = [start, top, wide, tall] as const;
    const overhang = names.length > 0 ? Math.max(...names.map((name, at) => left + at * PITCH + textWidth(name) * Math.cos(slope))) + 20 : 0;
    const node = picture(Math.max(start + wide * columns + 4, overhang), top + tall * view.rows.length + 4);
    const fixed = [
      ...rowLabels(view.rows, tall, left, top),
      ...names.map((name, at) => {
        const x = left + at * PITCH + STRIP / 2 + 3;
        return label(x, top - 6, name, { transform: `rotate(-45 ${x} ${top - 6})` });
      }),
    ];
    const { element: head, name } = heading(view.name, ramp(view), view.panel.missing);
    let shown = 0;
    node.addEventListener("pointermove", (event) => {
      const found = cellAt(event, node, frame, columns, view.rows.length);
      if (found !== null) point(view, shown, found.row, found.column);
    });
    const box = html("div", "steps-panel");
    box.append(head, node);
    return {
      element: box,
      show: (at) => {
        shown = at;
        name.textContent = `${view.name} at ${figure.x.label.toLowerCase()} ${word(steps[at] ?? null)}`;
        node.replaceChildren(
          ...fixed,
          cells(columns, view.rows.length, (row, column) => valueAt(view, row, at, column), ramp(view), frame),
          ...beside.map((other, index) =>
            cells(1, other.rows.length, (row) => valueAt(other, row, at), ramp(other), [
              left + index * PITCH,
              top,
              STRIP,
              tall,
            ]),
          ),
        );
      },
    };
  }

  function draw(at: number): void {
    width = at;
    const [matrices, timed] = [views.filter(({ panel }) => panel.width !== null), views.filter(({ panel }) => panel.width === null)];
    const beside = matrices.length > 0 && timed.length > 0 && width >= 700;
    const right = beside ? Math.min(420, Math.floor(width * 0.38)) : width;
    const main = beside ? width - right - GAP : width;
    const labels = Math.ceil(Math.max(...views.flatMap(({ rows }) => rows.map((row) => textWidth(row)))));
    const left = Math.min(labels, Math.max(44, Math.floor(main * 0.24))) + 10;
    const columns = [html("div", "steps-column"), html("div", "steps-column")] as const;
    const times = timed.map((view, index) => overTime(view, left, main - left - 14, index === timed.length - 1));
    const states = matrices.map((view) => atStep(view, left, right - left - 8));
    columns[0].append(...times.map((one) => one.element));
    columns[1].append(...states.map((one) => one.element));
    board.replaceChildren(...columns.filter((column) => column.childElementCount > 0));
    drawn = [...times, ...states];
    update();
  }

  choose();
  return { element, draw };
}

function sameRows(one: View, other: View): boolean {
  return one.rows.length === other.rows.length && one.rows.every((row, index) => row === other.rows[index]);
}

/** A value to a thousandth of the panel's largest, which is what the page's data can tell apart. */
function round(value: number, { low, high }: StepsPanel): number {
  const size = Math.max(Math.abs(low), Math.abs(high));
  return size > 0 ? Number(value.toFixed(Math.min(20, Math.max(0, 3 - Math.floor(Math.log10(size)))))) : value;
}
