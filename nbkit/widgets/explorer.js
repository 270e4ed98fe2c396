"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const NAMES = ["person", "system", "beside", "course", "structure", "plane"];
const sheets = new Map();
let turn = 0;

function fill(id, values, titles) {
  at(id).replaceChildren(...values.map((value, k) => new Option(titles ? titles[k] : value, value)));
}

function state() {
  const chosen = Object.fromEntries(NAMES.map((name) => [name, at(name).value]));
  return { ...chosen, who: data.people[at("person").selectedIndex], index: at("person").selectedIndex, age: Number(at("age").value) };
}

function newPerson() {
  const who = data.people[at("person").selectedIndex], slider = at("age");
  slider.min = who.age;
  slider.max = who.age + data.horizon;
  slider.step = data.step;
  slider.value = who.age + data.step * Math.round(data.horizon / 2 / data.step);
}

/* the grey levels of a sheet: years below each other, planes beside each other */
function pixels(sheet) {
  if (!sheets.has(sheet)) sheets.set(sheet, (async () => {
    const image = new Image();
    image.src = sheet;
    await image.decode();
    const canvas = new OffscreenCanvas(image.width, image.height), pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.drawImage(image, 0, 0);
    return pen;
  })());
  return sheets.get(sheet);
}

async function tile(sheet, row, who, plane) {
  const pen = await pixels(sheet), box = who.boxes[plane];
  const left = data.planes.slice(0, data.planes.indexOf(plane)).reduce((sum, p) => sum + who.boxes[p].width, 0);
  const tall = Math.max(...data.planes.map((p) => who.boxes[p].height));
  const found = pen.getImageData(left, row * tall, box.width, box.height).data, levels = new Float32Array(box.width * box.height);
  for (let i = 0; i < levels.length; i++) levels[i] = found[4 * i];
  return levels;
}

/* where a year lies between those predicted: first row, next row, share of the way */
function between(year) {
  let k = 0;
  while (k < data.years.length - 2 && data.years[k + 1] <= year) k++;
  return [k, k + 1, (year - data.years[k]) / (data.years[k + 1] - data.years[k])];
}

const mix = (a, b, share) => (1 - share) * a + share * b;

function outlook(now, system) {
  const found = data.outlooks[system][now.index][now.course], year = now.age - now.who.age;
  const last = data.years[found.count - 1];
  if (!found.count || year > last + 1e-9) return { refusal: found.refusal, found };
  return { found, year, value: (part) => found[part][now.structure] && along(found[part][now.structure], year) };
}

function along(values, year) {
  const [k, next, share] = between(year);
  return share <= 0 ? values[k] : mix(values[k], values[next], share);
}

async function picture(now, said) {
  const [k, next, share] = between(said.year), sheet = said.found.sheet;
  const first = await tile(sheet, share >= 1 ? next : k, now.who, now.plane);
  if (share <= 0 || share >= 1) return first;
  const second = await tile(sheet, next, now.who, now.plane);
  return first.map((v, i) => mix(v, second[i], share));
}

const minus = (a, b) => a.map((v, i) => v - b[i]);
const signed = (text) => text.replace("-", "−");

function said(now, system) {
  const told = outlook(now, system), name = data.structures.find((s) => s.name === now.structure).title;
  if (told.refusal !== undefined) return told.refusal;
  const ml = told.value("ml"), sd = told.value("sd"), head = `${system}, ${now.age.toFixed(1)} years: `;
  if (ml === undefined) return head + "no volume of this structure";
  let text = `${head}${name} ${ml.toFixed(2)}` + (sd ? ` ± ${(1.96 * sd).toFixed(2)} mL` : " mL");
  const seen = now.who.seen.ml[now.structure];
  if (seen && seen.length) {
    const change = 100 * (ml / seen[seen.length - 1] - 1);
    text += signed(` (${change < 0 ? "" : "+"}${change.toFixed(1)} % since baseline)`);
  }
  return text;
}

function paint(levels, box, colour) {
  const small = new OffscreenCanvas(box.width, box.height), pen = small.getContext("2d"), image = pen.createImageData(box.width, box.height);
  for (let i = 0; i < levels.length; i++) {
    const rgb = colour(levels[i]);
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = rgb[c];
    image.data[4 * i + 3] = 255;
  }
  pen.putImageData(image, 0, 0);
  const canvas = document.createElement("canvas");
  canvas.width = 480;
  canvas.height = Math.round(480 * box.mm[1] / box.mm[0]);
  const large = canvas.getContext("2d");
  large.imageSmoothingQuality = "high";
  large.drawImage(small, 0, 0, canvas.width, canvas.height);
  return canvas;
}

const grey = (v) => { const g = Math.min(255, v / data.white); return [g, g, g]; };

function diverging(share) {
  const steps = data.colours.length - 1, place = Math.min(Math.max((share + 1) / 2, 0), 1) * steps, k = Math.min(Math.floor(place), steps - 1);
  return data.colours[k].map((v, c) => mix(v, data.colours[k + 1][c], place - k));
}

function column(title, age, levels, change, now) {
  const figure = document.createElement("figure"), caption = document.createElement("figcaption"), box = now.who.boxes[now.plane];
  const name = document.createElement("b"), span = document.createElement("span");
  name.textContent = title;
  span.append(name, document.createElement("br"), `${age.toFixed(1)} years`);
  caption.replaceChildren(span);
  figure.append(caption, view(paint(levels, box, grey), "", `${title}, ${age.toFixed(1)} years`));
  if (change) {
    const swing = 255 * now.who.swing / now.who.full;
    figure.append(view(paint(change, box, (v) => diverging(v / swing)), "change", `${title}, change since the last scan seen`));
  }
  return figure;
}

function view(canvas, kind, words) {
  const frame = document.createElement("div");
  frame.className = `view ${kind}`;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", words);
  frame.append(canvas);
  for (const side of ["L", "R"]) {
    const letter = document.createElement("span");
    letter.textContent = side;
    letter.className = side.toLowerCase();
    frame.append(letter);
  }
  return frame;
}

async function pictures(now, systems) {
  const baseline = await tile(now.who.sheet, 0, now.who, now.plane);
  const made = [column("last scan seen", now.who.age, baseline, null, now)];
  for (const system of systems) {
    const told = outlook(now, system);
    if (told.refusal !== undefined) continue;
    const image = await picture(now, told), before = await tile(told.found.sheet, 0, now.who, now.plane);
    made.push(column(system, now.age, image, minus(image, before), now));
  }
  if (now.who.truth.length) {
    const nearest = now.who.truth.reduce((best, age, k) => Math.abs(age - now.age) < Math.abs(now.who.truth[best] - now.age) ? k : best, 0);
    const image = await tile(now.who.sheet, 1 + nearest, now.who, now.plane);
    made.push(column("true scan", now.who.truth[nearest], image, minus(image, baseline), now));
  }
  return made;
}

/* the chart */
const NS = "http://www.w3.org/2000/svg";
const FRAME = { left: 62, right: 14, top: 10, bottom: 46, width: 520, height: 400 };

function mark(kind, attributes, text) {
  const part = document.createElementNS(NS, kind);
  for (const [name, value] of Object.entries(attributes)) part.setAttribute(name, value);
  if (text !== undefined) part.textContent = text;
  return part;
}

function curve(now, system) {
  const found = data.outlooks[system][now.index][now.course], ml = found.ml[now.structure], seen = now.who.seen.ml[now.structure];
  if (!ml || found.count < 2) return null;
  const sd = found.sd[now.structure] || ml.map(() => 0);
  return ml.map((v, k) => [now.who.age + data.years[k], k || !seen.length ? v : seen[seen.length - 1], k || !seen.length ? 1.96 * sd[k] : 0]);
}

function steps(low, high, most) {
  const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((s) => s * power).find((s) => s >= rough);
  const found = [];
  for (let v = Math.ceil(low / step) * step; v <= high + 1e-9; v += step) found.push(v);
  return [found, Math.max(0, -Math.floor(Math.log10(step) + 1e-9))];
}

function chart(now, systems) {
  const curves = systems.map((system) => ({ system, points: curve(now, system), colour: data.systems.find((s) => s.name === system).colour })).filter((c) => c.points);
  const points = ["seen", "later"].map((name) => [name, now.who[name].ages.map((age, k) => [age, now.who[name].ml[now.structure][k]])]);
  const values = [...curves.flatMap((c) => c.points.flatMap(([, v, d]) => [v - d, v + d])), ...points.flatMap(([, p]) => p.map(([, v]) => v))];
  const ages = [now.who.age, now.who.age + data.horizon, ...points.flatMap(([, p]) => p.map(([a]) => a))];
  const low = Math.min(...ages) - 1, high = Math.max(...ages) + 1, { left, right, top, bottom, width, height } = FRAME;
  const pad = 0.06 * (Math.max(...values) - Math.min(...values)) || 0.05, least = Math.min(...values) - pad, most = Math.max(...values) + pad;
  const x = (a) => left + (width - left - right) * (a - low) / (high - low), y = (v) => height - bottom - (height - top - bottom) * (v - least) / (most - least);
  const parts = [];
  for (const [from, to] of [[low, data.trained[0]], [data.trained[1], high]])
    if (to > from) parts.push(mark("rect", { class: "unlearned", x: x(Math.max(from, low)), y: top, width: x(Math.min(to, high)) - x(Math.max(from, low)), height: height - top - bottom }));
  parts.push(mark("path", { class: "axis", d: `M${left},${top}V${height - bottom}H${width - right}` }));
  const [across] = steps(low, high, 7), [up, digits] = steps(least, most, 5);
  for (const a of across) parts.push(mark("text", { x: x(a), y: height - bottom + 18, "text-anchor": "middle" }, a.toFixed(0)));
  for (const v of up) parts.push(mark("text", { x: left - 8, y: y(v) + 4, "text-anchor": "end" }, v.toFixed(digits)));
  const title = data.structures.find((s) => s.name === now.structure).title;
  parts.push(mark("text", { class: "name", x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, "age (years)"));
  parts.push(mark("text", { class: "name", transform: `translate(14 ${(height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, `${title} (mL)`));
  for (const c of curves) {
    const upper = c.points.map(([a, v, d]) => `${x(a)},${y(v + d)}`), lower = c.points.map(([a, v, d]) => `${x(a)},${y(v - d)}`).reverse();
    if (c.points.some(([, , d]) => d)) parts.push(mark("polygon", { class: "band", fill: c.colour, points: [...upper, ...lower].join(" ") }));
    parts.push(mark("polyline", { class: "curve", stroke: c.colour, points: c.points.map(([a, v]) => `${x(a)},${y(v)}`).join(" ") }));
    const told = outlook(now, c.system), value = told.refusal === undefined && told.value("ml");
    if (value) parts.push(mark("circle", { class: "dot", fill: c.colour, cx: x(now.age), cy: y(value), r: 6 }));
  }
  for (const [name, list] of points) for (const [a, v] of list) parts.push(mark("circle", { class: name, cx: x(a), cy: y(v), r: 4.5 }));
  parts.push(mark("path", { class: "now", d: `M${x(now.age)},${top}V${height - bottom}` }));
  at("chart").replaceChildren(...parts);
  const key = [...curves.map((c) => [c.system, "", c.colour]), ["scans seen", "p seen"], ...(points[1][1].length ? [["true visits kept back", "p"]] : []), ...(low < data.trained[0] || high > data.trained[1] ? [["ages not learned from", "box"]] : [])];
  at("legend").replaceChildren(...key.map(([words, kind, colour]) => {
    const entry = document.createElement("span"), sign = document.createElement("i");
    sign.className = kind;
    if (colour) sign.style.background = colour;
    entry.append(sign, words);
    return entry;
  }));
}

function words(now, systems) {
  const [low, high] = data.trained, parts = systems.map((system) => said(now, system));
  if (now.age < low || now.age > high) parts.push(`outside the ages learned from (${low.toFixed(0)} to ${high.toFixed(0)})`);
  return parts.join("; ");
}

async function show() {
  const mine = ++turn, now = state(), systems = [now.system, ...(now.beside === data.alone ? [] : [now.beside])];
  at("years").textContent = `${now.age.toFixed(1)} years`;
  at("said").textContent = words(now, systems);
  chart(now, systems);
  at("less").textContent = `−${now.who.swing.toFixed(2)}`;
  at("more").textContent = `+${now.who.swing.toFixed(2)}`;
  const made = await pictures(now, systems);
  if (mine === turn) {
    at("pictures").replaceChildren(...made);
    document.body.dataset.shown = JSON.stringify(now, ["person", ...NAMES, "age"]);
  }
}

function ramp() {
  const canvas = at("ramp"), pen = canvas.getContext("2d");
  for (let k = 0; k < canvas.width; k++) {
    pen.fillStyle = `rgb(${diverging(2 * k / (canvas.width - 1) - 1).join(" ")})`;
    pen.fillRect(k, 0, 1, canvas.height);
  }
}

fill("person", data.people.map((p) => p.name), data.people.map((p) => `${p.name}, ${p.age.toFixed(0)} years`));
fill("system", data.systems.map((s) => s.name));
fill("beside", [data.alone, ...data.systems.map((s) => s.name)]);
fill("course", data.courses);
fill("structure", data.structures.map((s) => s.name), data.structures.map((s) => s.title));
fill("plane", data.planes);
for (const name of NAMES.slice(1)) at(name).value = data.start[name];
at("person").selectedIndex = data.start.index;
newPerson();
at("age").value = data.start.age;
ramp();
at("age").addEventListener("input", show);
at("controls").addEventListener("input", (event) => {
  if (event.target.id === "person") newPerson();
  show();
});
at("controls").addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("keydown", (event) => {
  const away = { ArrowLeft: "stepDown", ArrowRight: "stepUp" }[event.key];
  if (away && document.activeElement === document.body) {
    at("age")[away]();
    show();
  }
});
show();
