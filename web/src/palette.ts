/** Colour, dash and symbol of every series: a name of one column looks the same in every figure of a place.
 *
 * Colours are CSS variables, so a change of colour scheme, and print, repaint the charts with no redrawing.
 */
import { type Figure, distinct, words } from "./data.js";

export const COLOURS = 8;
const DASHES = [undefined, "6 3", "2 3", "8 3 2 3"] as const;
const SYMBOLS = ["circle", "square", "triangle", "diamond", "star", "cross", "wye", "hexagon"] as const;

export interface Look {
  readonly colour: string;
  readonly dash: string | undefined;
  readonly symbol: (typeof SYMBOLS)[number];
  /** Neither highlighted nor one of a few: drawn grey and thin, under the others. */
  readonly muted: boolean;
  readonly strong: boolean;
}

export type Palette = ReadonlyMap<string, number>;

function coloured(figure: Figure): string[] {
  const names = distinct(words(figure, figure.series));
  const present = figure.highlight.filter((name) => names.includes(name));
  return names.length <= COLOURS || present.length === 0 ? [...present, ...names] : present;
}

/** A number for each series name that is coloured in any figure with the same place and the same series column. */
export function palette(figure: Figure, figures: readonly Figure[]): Palette {
  const kin = figures.filter(
    ({ kind, place, series }) =>
      kind !== "steps" && series !== null && place === figure.place && series === figure.series,
  );
  const emphasised = kin.flatMap(({ highlight }) => highlight); // these get the first, most distinct colours
  return new Map(distinct([...emphasised, ...kin.flatMap(coloured)]).map((name, index) => [name, index]));
}

/** How each series of a figure is drawn. */
export function looks(figure: Figure, colours: Palette): Map<string, Look> {
  const names = distinct(words(figure, figure.series));
  const present = names.filter((name) => figure.highlight.includes(name));
  const emphasis = names.length > COLOURS && present.length > 0;
  return new Map(
    names.map((name, order) => {
      const index = figure.series === null ? 0 : (colours.get(name) ?? order);
      const muted = emphasis && !present.includes(name);
      return [
        name,
        {
          colour: muted ? "var(--muted-series)" : `var(--series-${(index % COLOURS) + 1})`,
          dash: muted ? undefined : DASHES[Math.floor(index / COLOURS) % DASHES.length],
          symbol: muted ? "circle" : (SYMBOLS[index % SYMBOLS.length] ?? "circle"),
          muted,
          strong: present.includes(name),
        },
      ];
    }),
  );
}
