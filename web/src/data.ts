/** The page's data, as `softplace.study.page` writes them. Columns are looked up by name and never become object keys. */

export type Cell = string | number | boolean | null;
export type Kind = "interval" | "curve" | "heatmap" | "bar";
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

export interface Figure extends FigureHead {
  readonly columns: readonly Column[];
  readonly length: number;
}

function unpack(column: PackedColumn): Column {
  const { name, values, levels, codes } = column;
  if (values !== undefined) return { name, values };
  return { name, values: (codes ?? []).map((code) => levels?.[code] ?? null) };
}

/** The figures that the page carries, in reading order. */
export function readFigures(text: string): Figure[] {
  const packed = JSON.parse(text) as { figures: (FigureHead & { columns: PackedColumn[] })[] };
  return packed.figures.map((figure) => {
    const columns = figure.columns.map(unpack);
    return { ...figure, columns, length: columns[0]?.values.length ?? 0 };
  });
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
  const rows = Array.from({ length: figure.length }, (_, row) =>
    figure.columns.map(({ values }) => csvCell(values[row] ?? null)),
  );
  return [figure.columns.map(({ name }) => csvCell(name)), ...rows].map((cells) => `${cells.join(",")}\r\n`).join("");
}
