/** The page's data, as `softplace.report.page` writes them. Columns are looked up by name and never become object keys. */

export type Cell = string | number | boolean | null;
export type Kind = "interval" | "curve" | "heatmap" | "bar" | "steps";
export type ScaleName = "linear" | "log" | "category";

export interface AxisSpec {
  readonly column: string;
  readonly label: string;
  readonly scale: ScaleName;
}

interface PackedColumn {
  readonly name: string;
  readonly values?: readonly Cell[];
  readonly levels?: readonly string[];
  readonly codes?: readonly number[];
}

interface FigureHead {
  readonly id: string;
  readonly place: string;
  readonly kind: Kind;
  readonly title: string;
  readonly caption: string;
  readonly x: AxisSpec;
  readonly y: AxisSpec;
  readonly series: string | null;
  readonly facet: string | null;
  readonly reference_line: number | null;
  readonly band: readonly [number, number] | null;
  readonly highlight: readonly string[];
  readonly value_label: string | null;
}

export interface Column {
  readonly name: string;
  readonly values: readonly Cell[];
}

/** A panel of a step-through, as `softplace.report.steps` packs it: two characters a number. */
export interface StepsPanel {
  readonly series: Cell;
  readonly name: Cell;
  readonly rows: readonly Cell[];
  readonly steps: readonly Cell[];
  /** The columns of a matrix that is there at every step; null where the panel has one number a row and step. */
  readonly width: number | null;
  readonly low: number;
  readonly high: number;
  readonly missing: boolean;
  readonly codes: string;
}

export interface Figure extends FigureHead {
  readonly columns: readonly Column[];
  readonly panels: readonly StepsPanel[];
  readonly length: number;
}

function unpack(column: PackedColumn): Column {
  const { name, values, levels, codes } = column;
  if (values !== undefined) return { name, values };
  return { name, values: (codes ?? []).map((code) => levels?.[code] ?? null) };
}

/** The figures that the page carries, in reading order. */
export function readFigures(text: string): Figure[] {
  const packed = JSON.parse(text) as {
    figures: (FigureHead & { columns: PackedColumn[]; panels?: readonly StepsPanel[] })[];
  };
  return packed.figures.map((figure) => {
    const columns = figure.columns.map(unpack);
    const panels = figure.panels ?? [];
    return { ...figure, columns, panels, length: columns[0]?.values.length ?? panels.length };
  });
}

const LEVELS = 4095;
const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const DIGIT = new Map([...DIGITS].map((digit, value) => [digit, value]));

/** The numbers of a panel, row after row, step after step, column after column; no value is NaN. */
export function panelNumbers({ codes, low, high }: StepsPanel): Float64Array {
  const digit = (at: number): number => DIGIT.get(codes.charAt(at)) ?? NaN;
  return Float64Array.from({ length: codes.length / 2 }, (_, at) => {
    const code = digit(2 * at) * 64 + digit(2 * at + 1);
    return code < LEVELS ? low + (code / (LEVELS - 1)) * (high - low) : NaN;
  });
}

/** A row per cell: the columns of a step-through as its figure was given them, and the column of a matrix. */
function stepRows(figure: Figure): Cell[][] {
  const matrices = figure.panels.some(({ width }) => width !== null);
  const given = (name: string | null, cell: Cell): Cell[] => (name === null ? [] : [cell]);
  const cells = figure.panels.flatMap((panel) => {
    const width = panel.width ?? 1;
    return [...panelNumbers(panel)].map((value, at) => [
      ...given(figure.series, panel.series),
      ...given(figure.facet, panel.name),
      panel.rows[Math.floor(at / (width * panel.steps.length))] ?? null,
      panel.steps[Math.floor(at / width) % panel.steps.length] ?? null,
      ...(matrices ? [panel.width === null ? null : (at % width) + 1] : []), // counted from 1
      Number.isFinite(value) ? Number(value.toPrecision(5)) : null,
    ]);
  });
  const head = [
    ...given(figure.series, figure.series),
    ...given(figure.facet, figure.facet),
    figure.y.column,
    figure.x.column,
    ...(matrices ? ["column"] : []),
    "value",
  ];
  return [head, ...cells];
}

function column(figure: Figure, name: string): readonly Cell[] | null {
  return figure.columns.find((candidate) => candidate.name === name)?.values ?? null;
}

/** A column as numbers; what is no number, and a column that is not there, is NaN. */
export function numbers(figure: Figure, name: string): number[] {
  const values = column(figure, name);
  return Array.from({ length: figure.length }, (_, row) => {
    const value = values?.[row];
    return typeof value === "number" ? value : NaN;
  });
}

/** A column as words; no column gives empty words. */
export function words(figure: Figure, name: string | null): string[] {
  const values = name === null ? null : column(figure, name);
  return Array.from({ length: figure.length }, (_, row) => (values === null ? "" : String(values[row] ?? "n/a")));
}

/** Whether every value of a column is a number. */
export function isNumeric(figure: Figure, name: string): boolean {
  return (column(figure, name) ?? []).every((value) => typeof value === "number");
}

/** The distinct values in the order of their first appearance. */
export function distinct<T>(values: Iterable<T>): T[] {
  return [...new Set(values)];
}

function csvCell(cell: Cell): string {
  if (cell === null) return "";
  // A spreadsheet runs text that starts like a formula: an apostrophe keeps it text.
  const text = typeof cell === "string" && /^[=+\-@\t\r]/.test(cell) ? `'${cell}` : String(cell);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** The figure's numbers as RFC 4180 text. */
export function csv(figure: Figure): string {
  const columnRows = (): Cell[][] => [
    figure.columns.map(({ name }) => name),
    ...Array.from({ length: figure.length }, (_, row) => figure.columns.map(({ values }) => values[row] ?? null)),
  ];
  const rows = figure.kind === "steps" ? stepRows(figure) : columnRows();
  return rows.map((cells) => `${cells.map(csvCell).join(",")}\r\n`).join("");
}
