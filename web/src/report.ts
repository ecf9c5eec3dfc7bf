/** Entry of the study page: draws every figure, and adds what only a script can do (copy, download, open for print). */
import { type Figure, csv, readFigures } from "./data.js";
import { mount } from "./figure.js";
import { palette } from "./palette.js";

function announce(text: string): void {
  const status = document.getElementById("status");
  if (status !== null) status.textContent = text;
}

function button(label: string, context: string, action: () => void): HTMLButtonElement {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = label;
  if (context !== "") {
    const hidden = document.createElement("span");
    hidden.className = "visually-hidden";
    hidden.textContent = `: ${context}`;
    made.append(hidden);
  }
  made.addEventListener("click", action);
  return made;
}

function save(name: string, type: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
  announce(`${name} was saved.`);
}

/** Copies text; where the browser refuses, the text is selected so that the keyboard can copy it. */
async function copy(source: HTMLElement): Promise<void> {
  try {
    await navigator.clipboard.writeText(source.textContent ?? "");
    announce("Copied.");
  } catch {
    source.closest("details")?.setAttribute("open", "");
    getSelection()?.selectAllChildren(source);
    announce("Selected. Press Ctrl+C or Command+C to copy.");
  }
}

function addCopyButtons(): void {
  for (const source of document.querySelectorAll<HTMLElement>("[data-copy]")) {
    const made = button("Copy", source.dataset["copy"] ?? "", () => void copy(source));
    made.className = "copy";
    (source.closest(".copyable") ?? source).append(made);
  }
  const entries = [...document.querySelectorAll("[data-bibtex]")].map((entry) => entry.textContent?.trim() ?? "");
  const tools = document.getElementById("bibtex-tools");
  if (tools !== null && entries.length > 0) {
    tools.append(
      button(`Save all ${entries.length} as BibTeX`, "", () =>
        save("softplace.bib", "application/x-bibtex", `${entries.join("\n\n")}\n`),
      ),
    );
  }
}

function addFigures(figures: readonly Figure[]): void {
  for (const figure of figures) {
    const box = document.getElementById(figure.id);
    box
      ?.querySelector(".numbers")
      ?.append(button("Save CSV", figure.title, () => save(`${figure.id}.csv`, "text/csv;charset=utf-8", csv(figure))));
    const place = box?.querySelector<HTMLElement>(".chart");
    if (place === null || place === undefined) continue;
    try {
      mount(figure, place, palette(figure, figures));
    } catch (error) {
      console.error(error);
      place
        .querySelector(".chart-note")
        ?.replaceChildren("This chart could not be drawn. Its numbers are in the table below.");
    }
  }
}

/** Print shows every table: opens what is closed, and closes it again. */
function openForPrint(): void {
  let opened: HTMLDetailsElement[] = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll<HTMLDetailsElement>("details:not([open])")];
    for (const details of opened) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of opened) details.open = false;
  });
}

addFigures(readFigures(document.getElementById("data")?.textContent ?? '{"figures":[]}'));
addCopyButtons();
openForPrint();
document.documentElement.dataset["ready"] = "true";
