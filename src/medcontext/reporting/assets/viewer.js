// The case viewer: one NiiVue a panel (image, truth, each model), linked, with the errors computed here. Of cases without
// truth there is neither its panel nor errors, and scores are what is expected.

const { Niivue, NVImage, SLICE_TYPE, SHOW_RENDER } = window.niivue;
const element = (id) => document.getElementById(id);
let data = JSON.parse(element("data").textContent);

const VIEWS = {
  axial: SLICE_TYPE.AXIAL, coronal: SLICE_TYPE.CORONAL, sagittal: SLICE_TYPE.SAGITTAL,
  all: SLICE_TYPE.MULTIPLANAR, "3D": SLICE_TYPE.RENDER,
};
const OVERLAYS = [...(data.truth ? ["errors"] : []), "structures", "none"];
// Along which axis of the patient (right, front, head) the slices of a view are stacked.
const DEPTH = { axial: [0, 0, 1], coronal: [0, 1, 0], sagittal: [1, 0, 0] };
const FADED = 0.45; // of the opacity, for what is right, where errors are shown
const CROSSHAIR = 0.3; // per cent of the view
const PANELS_AT_FIRST = 4;

const state = { index: 0, view: "axial", overlay: OVERLAYS[0], opacity: 0.65, hidden: new Set(), loading: 0 };
const panels = [
  { key: "image", name: "Image" },
  ...(data.truth ? [{ key: "truth", name: "Truth" }] : []),
  ...data.models.map((name, index) => ({ key: String(index), name })),
];
let volumes = null; // the case that is shown: `images` (NVImages) and `labels` (their voxels) by key, window, box

const scoreName = data.truth ? "DSC" : "expected DSC";
const reference = (parts) => parts.truth ?? parts[0]; // of a case's images or labels, one that every case has

// ---------- reading

// A case's window, crop and volumes: from the page itself, or from the server that made it.
async function fetchCase(index) {
  if (data.cases[index].packed) return JSON.parse(element(`case-${index}`).textContent);
  const answer = await fetch(`case/${index}`);
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

async function read(index) {
  const packed = await fetchCase(index);
  const keys = Object.keys(packed.volumes);
  const images = await Promise.all(keys.map((key) => {
    const bytes = Uint8Array.from(atob(packed.volumes[key]), (letter) => letter.charCodeAt(0));
    return NVImage.new(bytes.buffer, `${key}.nii.gz`, "gray", 1);
  }));
  const found = Object.fromEntries(keys.map((key, position) => [key, images[position]]));
  const labels = Object.fromEntries(keys.filter((key) => !key.startsWith("image")).map((key) => [key, found[key].img.slice()]));
  return { ...packed, images: found, labels };
}

// ---------- what is drawn over the image

// Two layers, because NiiVue gives all labels of a layer one opacity: structures (1 to K), and over them errors.
const [MISSED, SPURIOUS, CONFUSED] = [1, 2, 3];

function drawLayers({ key, layers: { structures, errors } }) {
  structures.img.fill(0);
  errors.img.fill(0);
  if (key === "image" || state.overlay === "none") return;
  const [own, truth] = [volumes.labels[key], reference(volumes.labels)];
  const visible = Uint8Array.from({ length: data.values.length + 1 }, (_, value) => (state.hidden.has(value) ? 0 : value));
  const marked = marksErrors(key);
  for (let i = 0; i < own.length; i++) {
    const [found, right] = [visible[own[i]], visible[truth[i]]];
    if (!marked || found === right) structures.img[i] = found;
    else errors.img[i] = found === 0 ? MISSED : right === 0 ? SPURIOUS : CONFUSED;
  }
}

const marksErrors = (key) => state.overlay === "errors" && key !== "truth";

function setOpacities({ key, nv }) {
  const [image, structures, errors] = nv.volumes;
  image.opacity = state.view === "3D" && key !== "image" ? 0 : 1; // in 3D the body would hide the structures
  structures.opacity = state.opacity * (marksErrors(key) ? FADED : 1);
  errors.opacity = Math.min(1, state.opacity + 0.2);
}

function colourTable(entries) {
  const table = [[0, 0, 0], ...entries.map(({ colour }) => rgb(colour))];
  const [R, G, B] = [0, 1, 2].map((channel) => table.map((entry) => entry[channel]));
  return { R, G, B, I: table.map((_, index) => index), labels: ["", ...entries.map(({ name }) => name)] };
}

const rgb = (hex) => [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));

function paint(panel) {
  if (!panel.layers) return;
  drawLayers(panel);
  setOpacities(panel);
  panel.nv.updateGLVolume();
}

const paintAll = () => visiblePanels().forEach(paint);
const visiblePanels = () => panels.filter((panel) => !panel.figure.hidden);

// ---------- panels

async function build(panel) {
  panel.nv = new Niivue({
    backColor: [0, 0, 0, 1], crosshairColor: [1, 1, 1, 0.55], crosshairWidthUnit: "percent",
    crosshairGap: 0, show3Dcrosshair: false, isRadiologicalConvention: true, isOrientCube: false, loadingText: "",
    logLevel: "error", multiplanarShowRender: SHOW_RENDER.ALWAYS, fontMinPx: 12, fontColor: [0.85, 0.85, 0.6, 1], isColorbar: false,
    isNearestInterpolation: false, dragAndDropEnabled: false, sagittalNoseLeft: true,
  });
  panel.nv.opts.crosshairWidth = element("crosshair").checked ? CROSSHAIR : 0;
  await panel.nv.attachToCanvas(panel.canvas);
  panel.nv.setSliceType(VIEWS[state.view]);
  panel.nv.onLocationChange = (place) => describe(place);
  panel.nv.onIntensityChange = ({ cal_min, cal_max }) => { // a right drag in one panel is for all
    setWindow({ window: [cal_min, cal_max], limits: volumes.limits });
    applyWindow();
  };
}

function link() {
  const shown = visiblePanels().filter((panel) => panel.nv);
  for (const panel of shown) {
    const others = shown.filter((other) => other !== panel).map((other) => other.nv);
    panel.nv.broadcastTo(others, { "2d": true, "3d": true });
  }
}

async function fill(panel) {
  if (!panel.nv) await build(panel);
  const { nv } = panel;
  const image = (volumes.images[`image-${panel.key}`] ?? volumes.images.image).clone();
  image.cal_min = +element("low").dataset.value;
  image.cal_max = +element("high").dataset.value;
  panel.layers = {};
  for (const [name, entries] of [["structures", data.values], ["errors", data.errors]]) {
    const layer = reference(volumes.images).clone();
    layer.img = new Uint8Array(layer.img.length);
    layer.setColormapLabel(colourTable(entries));
    panel.layers[name] = layer;
  }
  drawLayers(panel);
  // Set at once and drawn once: `addVolume` and its like would each compute all layers anew.
  nv.volumes = [image, panel.layers.structures, panel.layers.errors];
  nv.back = nv.volumes[0];
  nv.overlays = nv.volumes.slice(1);
  nv.opts.atlasOutline = element("outline").checked ? 1 : 0;
  setOpacities(panel);
  nv.updateGLVolume();
}

async function show(index, keepPlace = false) {
  const turn = ++state.loading;
  state.index = index;
  const entry = data.cases[index];
  element("case").value = String(index);
  element("viewer").dataset.shown = "";
  trouble("");
  try {
    const found = await read(index);
    if (turn !== state.loading) return; // another case was asked for meanwhile
    volumes = found;
    setWindow(found);
    for (const panel of visiblePanels()) await fill(panel);
    link();
    caption(entry);
    if (!keepPlace) toWorstSlice();
    if (found.note) trouble(`${entry.name} is ${found.note}`);
    element("viewer").dataset.shown = entry.name;
  } catch (error) {
    trouble(`${entry.name} cannot be shown: ${error.message}`);
  }
}

function trouble(text) {
  element("trouble").textContent = text;
  element("trouble").hidden = !text;
}

function caption(entry) {
  for (const panel of panels) {
    const score = panel.score;
    const mean = entry.means?.[+panel.key];
    score.textContent = mean == null ? "" : `${scoreName} ${(100 * mean).toFixed(1)}`;
  }
  element("remarks").textContent = entry.remarks;
  element("remarks").hidden = !entry.remarks;
  const header = `<thead><tr><th scope="col">${scoreName}, % of this case</th></tr></thead>`;
  const table = element("scores");
  table.innerHTML = header;
  for (const name of data.models) table.tHead.rows[0].append(cell("th", name));
  const body = table.createTBody();
  for (const [structure, scores] of Object.entries(entry.scores ?? {})) {
    const row = body.insertRow();
    row.append(cell("th", structure));
    const known = scores.filter((score) => score != null);
    const best = Math.max(...known);
    const differ = known.some((score) => score < best);
    for (const score of scores) {
      const shown = cell("td", score == null ? "–" : (100 * score).toFixed(1));
      if (score != null && score === best && differ) shown.className = "best";
      row.append(shown);
    }
  }
  table.hidden = !body.rows.length;
}

function cell(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (tag === "th") made.scope = "row";
  return made;
}

// ---------- moving about

// To a wrong voxel near the middle of all those of the slice, along the view's axis, that has most of them.
function toWorstSlice() {
  const base = reference(volumes.images);
  const size = base.hdr.dims.slice(1, 4);
  const order = base.permRAS; // where each axis of the patient is in the file, its sign the direction
  const axis = Math.abs(order[(DEPTH[state.view] ?? DEPTH.axial).indexOf(1)]) - 1;
  const truth = reference(volumes.labels);
  const own = visiblePanels().map(({ key }) => volumes.labels[key]).filter(Boolean);
  const wrong = truth.map((right, voxel) => own.reduce((count, label) => count + (label[voxel] !== right), 0));
  const marked = wrong.some(Boolean) ? wrong : truth.map((right) => (right ? 1 : 0));
  const places = []; // of what is marked: file coordinates, and how many models are wrong there
  let voxel = 0;
  for (let z = 0; z < size[2]; z++) for (let y = 0; y < size[1]; y++) for (let x = 0; x < size[0]; x++, voxel++) {
    if (marked[voxel]) places.push([x, y, z, marked[voxel]]);
  }
  const counts = new Array(size[axis]).fill(0);
  for (const place of places) counts[place[axis]] += place[3];
  const worst = counts.indexOf(Math.max(...counts));
  const slice = places.filter((place) => place[axis] === worst);
  const middle = [0, 1, 2].map((direction) => slice.reduce((sum, place) => sum + place[direction], 0) / slice.length);
  const away = (place) => middle.reduce((sum, value, direction) => sum + (place[direction] - value) ** 2, 0);
  const file = slice.reduce((near, place) => (away(place) < away(near) ? place : near), slice[0] ?? size.map((n) => n >> 1));
  const patient = [0, 1, 2].map((direction) => {
    const from = Math.abs(order[direction]) - 1;
    return ((order[direction] < 0 ? size[from] - 1 - file[from] : file[from]) + 0.5) / size[from];
  });
  moveTo(patient);
}

// All panels at once. (NiiVue's own link works from a panel that has the focus, which keys do not need.)
function moveTo(position) {
  const shown = visiblePanels().filter((panel) => panel.nv);
  for (const { nv } of shown) {
    nv.scene.crosshairPos = [...position];
    nv.drawScene();
  }
  shown[0]?.nv.createOnLocationChange();
}

function step(direction) {
  const [first] = visiblePanels().filter((panel) => panel.nv);
  if (!first) return;
  first.nv.moveCrosshairInVox(...(DEPTH[state.view] ?? DEPTH.axial).map((part) => part * direction));
  moveTo(first.nv.scene.crosshairPos);
}

function go(index) {
  const count = data.cases.length;
  const next = ((index % count) + count) % count;
  const hash = `#case=${encodeURIComponent(data.cases[next].name)}`;
  history.replaceState(null, "", hash);
  return show(next);
}

// The case that the address names, or null.
function named() {
  if (!location.hash.startsWith("#case=")) return null;
  const name = location.hash.slice("#case=".length);
  try {
    return decodeURIComponent(name);
  } catch {
    return name; // typed by hand: a % of its own
  }
}

const fromHash = () => data.cases.findIndex(({ name }) => name === named());

function openHash() {
  if (named() === null) return;
  const index = fromHash();
  if (index >= 0) show(index);
  else trouble(`${named()} is not in this page: make it with --cases, or use --serve.`);
  element("viewer").scrollIntoView();
  element("viewer").focus({ preventScroll: true });
}

// What lies under the crosshair, in every panel.
function describe(place) {
  const image = volumes?.images.image;
  if (!image || !place?.mm) return;
  const patient = image.mm2vox(Array.from(place.mm)); // voxels along the patient's axes: NiiVue turns every file to RAS
  if (patient.some((at, axis) => at < 0 || at >= image.dimsRAS[axis + 1])) return;
  const voxel = patient.reduce((sum, at, axis) => sum + image.img2RASstart[axis] + at * image.img2RASstep[axis], 0);
  const [nx, ny] = image.hdr.dims.slice(1, 3);
  const file = [voxel % nx, Math.floor(voxel / nx) % ny, Math.floor(voxel / (nx * ny))];
  const intensity = image.img[voxel] * image.hdr.scl_slope + image.hdr.scl_inter;
  const names = panels.filter(({ key }) => key !== "image").map(({ key, name }) => {
    const value = volumes.labels[key][voxel];
    return `${name}: ${value ? data.values[value - 1].name : "background"}`;
  });
  const whole = file.map((at, axis) => at + volumes.box[axis][0]).join(", "); // the page's volumes are cropped
  element("here").textContent = `voxel ${whole}, intensity ${intensity.toPrecision(4)} · ${names.join(" · ")}`;
}

// ---------- controls

function choice(group, names, chosen, act) {
  for (const name of names) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.setAttribute("aria-pressed", String(name === chosen));
    button.onclick = () => {
      for (const other of element(group).children) other.setAttribute("aria-pressed", String(other === button));
      act(name);
    };
    element(group).append(button);
  }
}

function setWindow({ window: [low, high], limits }) {
  for (const [id, value] of [["low", low], ["high", high]]) {
    const slider = element(id);
    slider.value = String(255 * (value - limits[0]) / (limits[1] - limits[0]));
    readWindow(slider, limits);
  }
}

function readWindow(slider, limits) {
  const value = limits[0] + (slider.value / 255) * (limits[1] - limits[0]);
  slider.dataset.value = value;
  slider.nextElementSibling.textContent = value.toPrecision(3).replace(/e\+?/, "e");
}

function applyWindow() {
  const low = +element("low").dataset.value;
  const high = Math.max(+element("high").dataset.value, low + 1e-6);
  for (const { nv } of visiblePanels()) {
    if (!nv?.volumes.length) continue;
    nv.volumes[0].cal_min = low;
    nv.volumes[0].cal_max = high;
    nv.updateGLVolume();
  }
}

function setUp() {
  for (const [index, panel] of panels.entries()) {
    panel.figure = document.createElement("figure");
    panel.figure.dataset.panel = panel.key;
    panel.canvas = document.createElement("canvas");
    panel.canvas.setAttribute("aria-label", `${panel.name}; arrow keys move through slices and cases`);
    const text = document.createElement("figcaption");
    panel.score = document.createElement("span");
    text.append(Object.assign(document.createElement("span"), { textContent: panel.name }), panel.score);
    const frame = document.createElement("div");
    frame.append(panel.canvas);
    panel.figure.append(frame, text);
    panel.figure.hidden = index >= PANELS_AT_FIRST + 2 || (index === 0 && panels.length > 4);
    element("panels").append(panel.figure);
    const label = document.createElement("label");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: !panel.figure.hidden });
    box.dataset.panel = panel.key;
    box.onchange = async () => {
      panel.figure.hidden = !box.checked;
      if (box.checked && volumes) {
        await fill(panel);
        panel.nv.setSliceType(VIEWS[state.view]);
        const other = visiblePanels().find((each) => each !== panel && each.nv);
        if (other) panel.nv.scene.crosshairPos = [...other.nv.scene.crosshairPos];
      }
      link();
      for (const { nv } of visiblePanels()) nv.resizeListener();
    };
    label.append(box, panel.name);
    element("shown").append(label);
  }
  data.values.forEach(({ name, colour }, index) => legend(name, colour, (visible) => {
    state.hidden[visible ? "delete" : "add"](index + 1);
    paintAll();
  }));
  if (data.truth) data.errors.forEach(({ name, colour }) => legend(name, colour));
  data.cases.forEach(({ name }, index) => element("case").add(new Option(name, String(index))));

  element("case").onchange = (event) => go(+event.target.value);
  element("previous").onclick = () => go(state.index - 1);
  element("next").onclick = () => go(state.index + 1);
  element("worst").onclick = () => toWorstSlice();
  choice("views", Object.keys(VIEWS), state.view, (name) => {
    state.view = name;
    for (const panel of visiblePanels()) {
      setOpacities(panel);
      panel.nv.setSliceType(VIEWS[name]);
      panel.nv.updateGLVolume();
    }
  });
  choice("overlays", OVERLAYS, state.overlay, (name) => { state.overlay = name; paintAll(); });
  element("opacity").oninput = (event) => { state.opacity = event.target.value / 100; paintAll(); };
  for (const id of ["low", "high"]) {
    element(id).oninput = (event) => { readWindow(event.target, volumes.limits); applyWindow(); };
  }
  element("outline").onchange = (event) => {
    for (const { nv } of visiblePanels()) nv.setAtlasOutline(event.target.checked ? 1 : 0);
  };
  element("crosshair").onchange = (event) => {
    for (const { nv } of panels) nv?.setCrosshairWidth(event.target.checked ? CROSSHAIR : 0);
  };
  element("viewer").addEventListener("changed", () => {
    data = JSON.parse(element("data").textContent);
    show(state.index, true);
  });
  window.addEventListener("hashchange", openHash);
  document.addEventListener("click", (event) => {
    const target = event.target.closest?.("a")?.getAttribute("href");
    if (target?.startsWith("#case=") && target === location.hash) openHash(); // else the hash changes, and opens it
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName)) return;
    const acts = {
      ArrowLeft: () => go(state.index - 1), ArrowRight: () => go(state.index + 1),
      ArrowUp: () => step(1), ArrowDown: () => step(-1), e: toWorstSlice, E: toWorstSlice,
    };
    if (!acts[event.key] || !isUsed()) return;
    event.preventDefault();
    event.stopPropagation();
    acts[event.key]();
  }, true);
}

// The arrow keys belong to the viewer while it is on the screen, and has the pointer or the focus; else they scroll.
function isUsed() {
  const { top, bottom } = element("panels").getBoundingClientRect();
  return bottom > 0 && top < innerHeight && element("viewer").matches(":hover, :focus-within");
}

// NiiVue has keys of its own, that no other panel would follow. It takes every touch, too, so that nobody could scroll
// past: one finger scrolls and taps, which the browser makes clicks of; two, or one that turns a body, are NiiVue's.
function keepFromNiiVue() {
  let forNiiVue = false;
  for (const kind of ["keydown", "keyup"]) {
    element("panels").addEventListener(kind, (event) => event.stopPropagation(), true);
  }
  for (const kind of ["touchstart", "touchmove", "touchend", "touchcancel"]) {
    element("panels").addEventListener(kind, (event) => {
      forNiiVue ||= state.view === "3D" || event.touches.length > 1;
      if (!forNiiVue) event.stopPropagation();
      if (!event.touches.length) forNiiVue = false;
    }, { capture: true, passive: true });
  }
}

function legend(name, colour, toggle) {
  const label = document.createElement("label");
  if (toggle) {
    const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true });
    box.onchange = () => toggle(box.checked);
    label.append(box);
  }
  const swatch = document.createElement("i");
  swatch.style.background = colour;
  label.append(swatch, name);
  element("legend").append(label);
}

setUp();
keepFromNiiVue();
if (!document.createElement("canvas").getContext("webgl2")) {
  trouble("This browser has no WebGL 2, which the pictures need.");
} else {
  await show(Math.max(0, fromHash()));
}
element("viewer").dataset.ready = "yes";
