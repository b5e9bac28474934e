// What every report can do: choose the metric and the theme, name the case under the mouse, follow a training.

const POLL = 10_000; // milliseconds

for (const button of document.querySelectorAll("#metrics button")) {
  button.onclick = () => {
    for (const other of document.querySelectorAll("#metrics button")) {
      other.setAttribute("aria-pressed", String(other === button));
    }
    for (const table of document.querySelectorAll("[data-table]")) {
      table.hidden = table.dataset.table !== button.dataset.metric;
    }
  };
}

document.getElementById("theme").onclick = () => {
  const root = document.documentElement;
  const dark = getComputedStyle(root).colorScheme.includes("dark");
  root.dataset.theme = dark ? "light" : "dark";
};

for (const link of document.querySelectorAll("svg a")) {
  const target = link.getAttribute("xlink:href") ?? link.getAttribute("href");
  const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
  title.textContent = decodeURIComponent(target.replace("#case=", ""));
  link.prepend(title);
  link.setAttribute("href", target); // matplotlib writes the older xlink:href alone
  link.tabIndex = -1; // hundreds of points; the list of cases is for the keyboard
}

// A table that is wider than its place says so, until its end is in sight.
function watchTables() {
  for (const place of document.querySelectorAll(".scroll")) {
    const more = () => place.toggleAttribute("data-more", place.scrollLeft + place.clientWidth < place.scrollWidth - 2);
    place.addEventListener("scroll", more, { passive: true });
    new ResizeObserver(more).observe(place);
  }
}

// Each figure as a file of its own: it takes the page's ink, font and theme along no more.
function offerFigures() {
  for (const svg of document.querySelectorAll("figure > svg")) {
    const link = Object.assign(document.createElement("a"), {
      className: "save", textContent: "SVG", href: "#", download: `${svg.getAttribute("aria-label").replaceAll(" ", "_")}.svg`,
    });
    link.onclick = () => {
      const copy = svg.cloneNode(true);
      const { width, height } = svg.viewBox.baseVal;
      for (const [name, value] of Object.entries({ xmlns: "http://www.w3.org/2000/svg", width: `${width}pt`, height: `${height}pt` })) {
        copy.setAttribute(name, value);
      }
      const text = new XMLSerializer().serializeToString(copy)
        .replaceAll("currentColor", "#1a1a1a").replaceAll("var(--faint)", "#63666b").replaceAll("var(--font)", "sans-serif");
      link.href = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    };
    svg.after(link);
  }
}

watchTables();
offerFigures();

// A training that goes on: what changes is fetched anew, and the viewer keeps its place.
async function follow(seen) {
  try {
    const now = await (await fetch("version")).json();
    if (seen && (now.logged !== seen.logged || now.watched !== seen.watched)) { // the cases follow the losses, later
      const fresh = new DOMParser().parseFromString(await (await fetch("./")).text(), "text/html");
      const viewer = Boolean(document.getElementById("viewer"));
      if (!viewer && fresh.getElementById("viewer")) location.reload(); // the first validation
      for (const id of ["live", "training", "methods"]) {
        const old = document.getElementById(id), next = fresh.getElementById(id);
        if (old && next) old.replaceWith(next);
        else if (next) location.reload();
      }
      if (viewer && now.watched !== seen.watched) {
        document.getElementById("data").textContent = fresh.getElementById("data").textContent;
        document.getElementById("viewer").dispatchEvent(new Event("changed"));
      }
    }
    seen = now;
    document.getElementById("live").classList.remove("lost");
  } catch {
    document.getElementById("live").classList.add("lost");
  }
  setTimeout(() => follow(seen), POLL);
}

if (document.getElementById("live")?.dataset.follow) follow(null);
