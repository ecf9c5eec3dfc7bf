// Builds the study page's script and stylesheet into the Python package, with the licences of what is bundled.
// The output depends on nothing but the sources and the locked packages: two builds are equal byte for byte.
import { build } from "esbuild";
import { copyFile, readFile, readdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
const out = path.join(here, "..", "src", "softplace", "web");
const target = ["chrome111", "firefox113", "safari16.4"]; // the first with color-mix(), which the heat maps use
const budget = 420_000; // bytes of script and style: the page has to stay under 1 MB with its data

async function bundle(entry, extra) {
  const result = await build({
    absWorkingDir: here,
    entryPoints: [entry],
    bundle: true,
    minify: true,
    charset: "utf8",
    legalComments: "none",
    logLevel: "warning",
    metafile: true,
    target,
    write: false,
    ...extra,
  });
  const [file] = result.outputFiles;
  return { text: file.text.trimEnd(), inputs: Object.keys(result.metafile.inputs) };
}

/** The folder of the package that a bundled file belongs to, or null for our own sources. */
function packageFolder(input) {
  const match = /^(?:.*\/)?node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input);
  return match === null ? null : path.join(here, match[0]);
}

/** A package, who holds its copyright, and the words of its licence. */
async function licence(folder) {
  const about = JSON.parse(await readFile(path.join(folder, "package.json"), "utf8"));
  const name = (await readdir(folder)).sort().find((file) => /^(licen[cs]e|copying)/i.test(file));
  if (name === undefined) throw new Error(`${about.name} ships no licence text`);
  const lines = (await readFile(path.join(folder, name), "utf8")).replaceAll("\r\n", "\n").trim().split("\n");
  const isHolder = (line) => /^copyright /i.test(line);
  const words = lines
    .filter((line) => !isHolder(line))
    .join(" ")
    .replace(/\s+/g, " ")
    .trim();
  return {
    words,
    head: `${about.name} ${about.version} (${about.license}). ${lines.filter(isHolder).join(" ").trim()}`,
  };
}

/** The notices, each licence text once, under the packages that are under it. */
function notices(licences) {
  const groups = new Map();
  for (const one of licences) groups.set(one.words, [...(groups.get(one.words) ?? []), one]);
  const parts = [...groups].map(([words, ones]) => `${ones.map(({ head }) => head).join("\n")}\n\n${wrap(words)}\n`);
  return ["The charts are drawn by code of these packages, each under the licence that follows it.\n", ...parts].join(
    "\n",
  );
}

function wrap(words) {
  return words.replace(/(.{1,100})(?: |$)/g, "$1\n").trimEnd();
}

/** What would end the element that holds the text, or differ from its hash once the browser has parsed it. */
function checkInlinable(name, text) {
  const bad = /<\/(?:script|style)|<!--|[\x00-\x08\x0b-\x1f\x7f\ufeff\ufffd]/i.exec(text);
  if (bad !== null) throw new Error(`${name} cannot stand inside a page: it holds ${JSON.stringify(bad[0])}`);
}

const script = await bundle("src/report.ts", { format: "iife" });
const style = await bundle("src/report.css", {});
checkInlinable("report.js", script.text);
checkInlinable("report.css", style.text);
const sizes = [script, style].map(({ text }) => Buffer.byteLength(text));
const total = sizes[0] + sizes[1];
if (total > budget) throw new Error(`report.js and report.css have ${total} bytes; the budget is ${budget}`);

const folders = [...new Set(script.inputs.map(packageFolder).filter((folder) => folder !== null))].sort();
const licences = await Promise.all(folders.map(licence));

await writeFile(path.join(out, "report.js"), script.text);
await writeFile(path.join(out, "report.css"), style.text);
await copyFile(path.join(here, "src", "report.html.jinja"), path.join(out, "report.html.jinja"));
await writeFile(path.join(out, "THIRD_PARTY_NOTICES.txt"), notices(licences));
console.log(`report.js ${sizes[0]} bytes, report.css ${sizes[1]} bytes, ${folders.length} packages`);
