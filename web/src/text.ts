/** Words and numbers on a chart: how wide they are, how they are shortened, how ticks are chosen. */

const FONT_FAMILY =
  'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif';
export const FONT_SIZE = 12;

const context = document.createElement("canvas").getContext("2d");
const segmenter = new Intl.Segmenter(undefined, { granularity: "grapheme" });

export const font = { fontFamily: FONT_FAMILY, fontSize: `${FONT_SIZE}px` };

/** Width in pixels of one line of chart text. */
export function textWidth(text: string, bold = false): number {
  if (context === null) return text.length * FONT_SIZE * 0.6;
  context.font = `${bold ? "600" : "400"} ${FONT_SIZE}px ${FONT_FAMILY}`;
  return context.measureText(text).width;
}

/** The text, cut at a whole character with an ellipsis where it is wider than `pixels`. */
export function truncate(text: string, pixels: number, bold = false): string {
  const line = text.replace(/\s+/g, " ");
  if (line.length < 200 && textWidth(line, bold) <= pixels) return line;
  const characters = [...segmenter.segment(line.slice(0, 400))].map(({ segment }) => segment);
  let low = 0;
  let high = characters.length;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (textWidth(`${characters.slice(0, middle).join("")}…`, bold) <= pixels) low = middle;
    else high = middle - 1;
  }
  return `${characters.slice(0, low).join("").trimEnd()}…`;
}

const SUPERSCRIPT = "⁰¹²³⁴⁵⁶⁷⁸⁹";

function power(exponent: number): string {
  const digits = [...String(Math.abs(exponent))].map((digit) => SUPERSCRIPT[Number(digit)]).join("");
  return `10${exponent < 0 ? "⁻" : ""}${digits}`;
}

/** A number with as many decimals as a scale that spans `span` needs, so that numbers below each other line up. */
export function showOn(value: number, span: number): string {
  const decimals = 2 - Math.floor(Math.log10(span));
  if (!Number.isFinite(value) || !Number.isFinite(decimals) || decimals > 5 || span >= 1e6) return show(value);
  return value
    .toLocaleString("en-US", {
      minimumFractionDigits: Math.max(0, decimals),
      maximumFractionDigits: Math.max(0, decimals),
    })
    .replace(/^-(?=[0.]*$)/, "") // no sign on what rounds to zero
    .replace("-", "−");
}

/** A number for a person: at most four significant digits, a true minus sign, powers of ten where zeros would be many. */
export function show(value: number): string {
  if (!Number.isFinite(value)) return "n/a";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e7)) {
    const exponent = Math.floor(Math.log10(size) + 1e-9);
    const mantissa = Number((value / 10 ** exponent).toPrecision(3));
    const head = Math.abs(mantissa) === 1 ? (mantissa < 0 ? "−" : "") : `${String(mantissa).replace("-", "−")}×`;
    return `${head}${power(exponent)}`;
  }
  return Number(value.toPrecision(4)).toLocaleString("en-US", { maximumSignificantDigits: 4 }).replace("-", "−");
}

/** The ticks of one axis in words: all as powers of ten where one of them has to be. */
export function showTicks(ticks: readonly number[] | number): (tick: number) => string {
  if (typeof ticks === "number") return show;
  const isPower = (tick: number): boolean => /^1e[+-]\d+$/.test(tick.toExponential());
  const far = ticks.some((tick) => tick < 1e-4 || tick >= 1e7);
  return far && ticks.every(isPower) ? (tick) => power(Math.round(Math.log10(tick))) : show;
}

/** At most `room` ticks of a logarithmic axis: powers of ten, with 2 and 5 (or 3) between them where there is room. */
export function logTicks(domain: readonly [number, number], room: number): number[] {
  const [low, high] = domain;
  const first = Math.floor(Math.log10(low) + 1e-9);
  const last = Math.ceil(Math.log10(high) - 1e-9);
  for (const steps of [[1, 2, 5], [1, 3], [1]]) {
    const ticks = [];
    for (let exponent = first; exponent <= last; exponent += 1) {
      for (const step of steps) {
        const tick = Number(`${step}e${exponent}`);
        if (tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9)) ticks.push(tick);
      }
    }
    if (ticks.length <= room && ticks.length >= 2) return ticks;
  }
  const stride = Math.max(1, Math.ceil((last - first + 1) / room));
  const ticks = [];
  for (let exponent = first; exponent <= last; exponent += stride) ticks.push(Number(`1e${exponent}`));
  const inside = ticks.filter((tick) => tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9));
  return inside.length > 0 ? inside : [low, high];
}

/** Every `n`th of the values, so that the widest label fits into its share of the pixels. */
export function thin<T>(values: readonly T[], pixels: number, labelPixels: number): T[] {
  const stride = Math.max(1, Math.ceil((labelPixels * values.length) / Math.max(1, pixels)));
  const nice = [1, 2, 4, 5, 8, 10, 16, 20, 25, 32, 50, 64, 100].find((candidate) => candidate >= stride) ?? stride;
  return values.filter((_, index) => index % nice === 0);
}
