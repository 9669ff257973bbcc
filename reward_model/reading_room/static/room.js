// The reading room's page. Whatever a model or a person wrote is set as text, never as HTML. The page
// moves on when the server has said that an answer is on disk, and sends it again until it has.
"use strict";

const $ = (id) => document.getElementById(id);
const RETRY = 2000, POLL = 10000, IDLE = 120000; // milliseconds
const CHOICES = ["left", "right", "tie", "both bad", "cannot tell"];
const COMPARED = {
  factuality: "Which is more true of the image?",
  reasoning: "Whose reasoning is sounder?",
  relevance: "Which question is worth more for this image?",
};
let now = { kind: "none" };
let busy = false;

function element(name, text = "", values = {}) {
  const made = Object.assign(document.createElement(name), values);
  made.textContent = text;
  return made;
}

// What the server says

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function ask(path, body) {
  const sent = body === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  };
  for (;;) {
    try {
      const reply = await fetch(path, { ...sent, cache: "no-store", credentials: "same-origin" });
      return [reply.status, await reply.json()];
    } catch {
      tell(body === undefined ? "The server does not answer. Asking again …"
        : "Not saved yet: the server does not answer. Sending again …");
      await pause(RETRY);
    }
  }
}

async function send(path, body) {
  if (busy) return;
  setBusy(true);
  try {
    const [status, reply] = await ask(path, body);
    if (status === 200) show(reply, path === "/undo" ? "Undone." : "Saved.");
    else if (reply.next) show(reply.next, "");
    tell(status === 200 ? "" : reply.error || "Not saved: the server failed. Send it again.");
  } finally {
    setBusy(false);
  }
}

function setBusy(is) {
  busy = is;
  $("panel").setAttribute("aria-busy", String(is));
  for (const button of document.querySelectorAll("#verdicts button, #send-reject, #send-pair"))
    button.disabled = is;
  $("undo").disabled = is || !now.undo;
}

function tell(message) {
  $("error").textContent = message;
  $("error").hidden = !message;
}

// Seconds of looking: only while the page is seen and somebody is there

const looking = { seconds: 0, tick: performance.now(), input: performance.now() };
setInterval(() => {
  const at = performance.now(), step = Math.min(at - looking.tick, 1000);
  looking.tick = at;
  if (document.visibilityState === "visible" && at - looking.input < IDLE)
    looking.seconds += step / 1000;
}, 250);
for (const kind of ["pointermove", "pointerdown", "keydown", "wheel"])
  addEventListener(kind, () => { looking.input = performance.now(); }, { passive: true });

// A question

function show(item, before) {
  now = item;
  looking.seconds = 0;
  looking.input = performance.now();
  $("comment").value = "";
  $("undo").disabled = !item.undo;
  showProgress(item.progress);
  const none = item.kind === "none";
  $("reading").hidden = none;
  $("viewer").hidden = none;
  $("nothing").hidden = !none;
  document.body.classList.toggle("done", none);
  if (none) {
    $("nothing-title").textContent = item.message;
    $("advice").textContent = item.advice;
    settle("nothing-title", `${before} ${item.message}`);
    return;
  }
  const { image } = item;
  $("about").textContent = `${image.modality} · ${image.anatomy} · ${image.width} × ${image.height}`;
  $("one").hidden = item.kind !== "verdict";
  $("two").hidden = item.kind !== "preference";
  if (item.kind === "verdict") showOne(item.rows[0]);
  else showTwo(item);
  showOthers();
  view(image);
  settle("question", `${before} Next question.`);
}

function settle(heading, said) {
  $("announce").textContent = said;
  $("panel").scrollTop = 0;
  scrollTo(0, 0);
  const at = document.activeElement;
  if (at === document.body || $("panel").contains(at) || at === $("undo") || at === null)
    $(heading).focus({ preventScroll: true });
}

function showProgress(progress) {
  const { answered, left, purposes, certificate } = progress;
  $("progress").textContent = `${answered} answered · ${left} left for you`;
  $("purposes").replaceChildren(...purposes.map(({ purpose, given, wanted }) => {
    const row = element("tr");
    row.append(element("th", purpose, { scope: "row" }), element("td", given), element("td", wanted));
    return row;
  }));
  $("certificate").textContent = certificate || "";
}

function listed(list, row) {
  list.replaceChildren(...row.options.map((option, place) => {
    const line = element("li", option);
    if (place === row.chosen) line.className = "chosen";
    return line;
  }));
  list.hidden = !row.options.length;
}

function showOne(row) {
  $("question").textContent = row.question;
  listed($("options"), row);
  $("answer").textContent = row.answer;
  $("rationale").textContent = row.rationale;
  $("rationale-line").hidden = !row.rationale;
  openWhy(false);
  for (const chip of chips()) chip.setAttribute("aria-pressed", "false");
  $("correct-option").hidden = !row.options.length;
  $("correct-text").hidden = Boolean(row.options.length);
  $("correction").value = "";
  const known = row.options.map((option, place) => [option, place]);
  const others = known.filter(([, place]) => place !== row.chosen);
  $("right-options").replaceChildren(
    ...[["not known, or none of these", ""], ...others].map(([text, value]) =>
      choice("right", value, text, value === "")),
  );
}

function choice(name, value, text, checked) {
  const label = element("label");
  label.append(element("input", "", { type: "radio", name, value, checked }), element("span", text));
  return label;
}

const chips = () => [...document.querySelectorAll(".chip")];

function openWhy(open) {
  $("why").hidden = !open;
  $("reject").setAttribute("aria-expanded", String(open));
  if (open) $("why").scrollIntoView({ block: "nearest" });
}

function showTwo(item) {
  const [left, right] = item.rows;
  const shared = left.question === right.question
    && JSON.stringify(left.options) === JSON.stringify(right.options);
  $("question").textContent = shared ? left.question : "Which of the two is better?";
  listed($("shared"), shared ? { ...left, chosen: null } : { options: [] });
  for (const [side, row] of [["left", left], ["right", right]]) {
    const parts = [];
    if (!shared) parts.push(element("p", row.question, { className: "text" }));
    if (row.options.length && !shared) {
      const list = element("ul");
      listed(list, row);
      parts.push(list);
    }
    const answer = element("p");
    answer.append(element("span", "Answer", { className: "label" }),
      element("strong", row.answer, { className: "text" }));
    parts.push(answer);
    if (row.rationale) {
      const why = element("p");
      why.append(element("span", "Reasoning", { className: "label" }),
        element("span", row.rationale, { className: "text" }));
      parts.push(why);
    }
    $(side).replaceChildren(...parts);
  }
  $("criteria").replaceChildren(...item.criteria.map((criterion) => {
    const set = element("fieldset", "", { className: "criterion" });
    set.dataset.criterion = criterion;
    set.append(element("legend", COMPARED[criterion] || criterion),
      ...CHOICES.map((name) => choice(criterion, name, name, false)));
    return set;
  }));
  mark();
}

const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`);

function mark() { // the line that a number key answers next
  const open = now.criteria.find((criterion) => !chosen(criterion));
  for (const set of document.querySelectorAll(".criterion"))
    set.classList.toggle("now", set.dataset.criterion === open);
  return open;
}

// An answer

function answered(said) {
  const body = { key: now.key, seconds: looking.seconds, comment: $("comment").value, ...said };
  send("/answer", body);
}

const verdict = (word) => now.kind === "verdict" && answered({ verdict: word });

function sendReject() {
  if (now.kind !== "verdict" || $("why").hidden) return;
  const reasons = chips().filter((chip) => chip.getAttribute("aria-pressed") === "true");
  let correction = $("correction").value;
  if (now.rows[0].options.length) {
    const value = chosen("right").value;
    correction = value === "" ? null : Number(value);
  }
  answered({ verdict: "reject", reasons: reasons.map((chip) => chip.dataset.reason), correction });
}

function sendPair() {
  if (now.kind !== "preference") return;
  if (mark()) {
    tell("Compare them in each line first.");
    return;
  }
  answered({ preferences: Object.fromEntries(now.criteria.map((c) => [c, chosen(c).value])) });
}

const undo = () => now.undo && send("/undo", { key: now.undo });

$("accept").onclick = () => verdict("accept");
$("cannot").onclick = () => verdict("cannot tell");
$("reject").onclick = () => openWhy($("why").hidden);
$("send-reject").onclick = sendReject;
$("send-pair").onclick = sendPair;
$("undo").onclick = undo;
$("criteria").onchange = mark;
for (const chip of chips())
  chip.onclick = () => chip.setAttribute("aria-pressed",
    String(chip.getAttribute("aria-pressed") !== "true"));

// The image: zoom, pan, window

const stage = $("stage"), picture = $("picture"), drawn = $("drawn");
const place = { image: null, scale: 1, x: 0, y: 0, fits: true };
const grey = { levels: null, busy: false, again: false };

function view(image) {
  place.image = image;
  grey.levels = null;
  const label = `${image.modality}, ${image.anatomy}, ${image.width} by ${image.height} pixels`;
  picture.hidden = true; // never the image of one question beside the words of another
  drawn.hidden = true;
  picture.alt = label;
  drawn.setAttribute("aria-label", label);
  picture.src = `/picture/${image.id}`;
  $("elsewhere").hidden = image.id === now.image.id;
  for (const thumb of $("others").children)
    thumb.setAttribute("aria-current", String(thumb.dataset.id === image.id));
  plainWindow();
  fit();
  loadLevels(image);
}

picture.onload = () => { picture.hidden = !drawn.hidden; };
picture.onerror = () => tell("The picture cannot be drawn: load the page again, or tell who started the room.");

function put() {
  const { image, scale, x, y } = place;
  for (const shown of [picture, drawn]) {
    shown.style.width = `${image.width}px`;
    shown.style.height = `${image.height}px`;
    shown.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    shown.classList.toggle("sharp", scale >= 4);
  }
  $("scale").textContent = `${Math.round(scale * 100)} %`;
}

function fit() {
  if (!place.image) return;
  const { width, height } = place.image;
  place.fits = true;
  place.scale = Math.min(stage.clientWidth / width, stage.clientHeight / height) || 1;
  place.x = (stage.clientWidth - width * place.scale) / 2;
  place.y = (stage.clientHeight - height * place.scale) / 2;
  put();
}

function zoom(factor, atX = stage.clientWidth / 2, atY = stage.clientHeight / 2) {
  const scale = Math.min(40, Math.max(0.05, place.scale * factor));
  place.x = atX - (atX - place.x) * (scale / place.scale);
  place.y = atY - (atY - place.y) * (scale / place.scale);
  Object.assign(place, { scale, fits: false });
  put();
}

function pan(dx, dy) {
  const { image, scale } = place;
  const within = (at, size, room) => Math.min(room - 40, Math.max(40 - size, at));
  place.x = within(place.x + dx, image.width * scale, stage.clientWidth);
  place.y = within(place.y + dy, image.height * scale, stage.clientHeight);
  place.fits = false;
  put();
}

new ResizeObserver(() => place.fits && fit()).observe(stage);
$("zoom-in").onclick = () => zoom(1.25);
$("zoom-out").onclick = () => zoom(0.8);
$("fit").onclick = fit;
$("actual").onclick = () => zoom(1 / place.scale);

const fingers = new Map();
stage.onpointerdown = (event) => {
  stage.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, event);
  stage.classList.add("pans");
};
stage.onpointermove = (event) => {
  const before = fingers.get(event.pointerId);
  if (!before || !place.image) return;
  const dx = event.clientX - before.clientX, dy = event.clientY - before.clientY;
  if (fingers.size === 2) {
    const [other] = [...fingers.values()].filter((f) => f.pointerId !== event.pointerId);
    const far = (f) => Math.hypot(f.clientX - other.clientX, f.clientY - other.clientY) || 1;
    const box = stage.getBoundingClientRect();
    zoom(far(event) / far(before), other.clientX - box.left, other.clientY - box.top);
  } else if (event.buttons & 2 || event.shiftKey) turn(dx, -dy);
  else pan(dx, dy);
  fingers.set(event.pointerId, event);
};
stage.onpointerup = stage.onpointercancel = (event) => {
  fingers.delete(event.pointerId);
  stage.classList.toggle("pans", fingers.size > 0);
};
stage.ondblclick = fit;
stage.oncontextmenu = (event) => event.preventDefault();
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  const box = stage.getBoundingClientRect();
  zoom(Math.exp(-event.deltaY * 0.0015), event.clientX - box.left, event.clientY - box.top);
}, { passive: false });

// A window: of the source's own values, drawn by the server's renderer, where the source is at hand;
// else brightness and contrast of the stored picture

async function loadLevels(image) {
  try {
    const reply = await fetch(`/levels/${image.id}`, { cache: "no-store" });
    if (place.image !== image) return;
    if (!reply.ok) {
      $("drawn-from").textContent = `Stored 8-bit picture: ${(await reply.json()).error}`;
      return;
    }
    const data = await reply.arrayBuffer();
    if (place.image !== image) return;
    const size = new DataView(data).getUint32(0, true);
    const about = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, size)));
    grey.levels = { ...about, image, index: new Uint16Array(data, 4 + size) };
    greyWindow();
  } catch {
    // the stored picture is there all the same
  }
}

const whole = (value) => value.toLocaleString("en", { maximumFractionDigits: Math.abs(value) < 10 ? 2 : 0 });

function greyWindow() {
  const { low, high, centre, width, unit, presets } = grey.levels;
  const step = high - low > 100 ? 1 : "any";
  Object.assign($("level"), { min: low, max: high, step });
  Object.assign($("width"), { min: Math.min(1, (high - low) / 1000), max: high - low, step });
  $("level").value = centre;
  $("width").value = width;
  $("level-name").textContent = "Level";
  $("width-name").textContent = "Width";
  $("drawn-from").textContent = `Source file: ${whole(low)} to ${whole(high)} ${unit}`;
  picture.style.filter = "";
  picture.hidden = !picture.complete;
  drawn.hidden = true;
  $("window").textContent = `${whole(centre)} · ${whole(width)} ${unit}`;
  $("presets").replaceChildren(...Object.entries(presets).map(([name, window]) => {
    const button = element("button", name, { type: "button" });
    button.onclick = () => {
      [$("level").value, $("width").value] = window;
      applyWindow();
    };
    return button;
  }));
  $("presets").hidden = !Object.keys(presets).length;
}

async function drawGrey() { // the newest wish alone, while one is on its way
  grey.again = true;
  if (grey.busy) return;
  grey.busy = true;
  try {
    while (grey.again && grey.levels) {
      grey.again = false;
      const { levels } = grey;
      const wish = `centre=${$("level").value}&width=${$("width").value}`;
      const reply = await fetch(`/levels/${levels.image.id}/table?${wish}`, { cache: "no-store" });
      const table = new Uint8Array(await reply.arrayBuffer());
      if (reply.ok && levels === grey.levels) paint(levels, table);
    }
  } catch {
    grey.again = false;
  } finally {
    grey.busy = false;
  }
}

function paint({ image, index }, table) {
  if (drawn.width !== image.width) drawn.width = image.width;
  if (drawn.height !== image.height) drawn.height = image.height;
  const context = drawn.getContext("2d"), data = context.createImageData(image.width, image.height);
  const colours = Uint32Array.from(table, (value) => 0xff000000 | (value * 0x10101));
  const words = new Uint32Array(data.data.buffer);
  for (let at = 0; at < words.length; at += 1) words[at] = colours[index[at]];
  context.putImageData(data, 0, 0);
  drawn.hidden = false;
  picture.hidden = true;
}

function plainWindow() {
  Object.assign($("level"), { min: 0, max: 200, step: 1, value: 100 });
  Object.assign($("width"), { min: 0, max: 400, step: 1, value: 100 });
  $("level-name").textContent = "Brightness";
  $("width-name").textContent = "Contrast";
  $("presets").hidden = true;
  $("drawn-from").textContent = "Stored 8-bit picture";
  applyWindow();
}

function applyWindow() {
  const level = Number($("level").value), width = Number($("width").value);
  if (grey.levels) {
    $("window").textContent = `${whole(level)} · ${whole(width)} ${grey.levels.unit}`;
    drawGrey();
    return;
  }
  $("window").textContent = `${level} % · ${width} %`;
  picture.style.filter = level === 100 && width === 100 ? ""
    : `brightness(${level}%) contrast(${width}%)`;
}

function turn(more, up) { // wider to the right, higher upwards; finer in a narrow window
  const width = $("width"), step = Math.max(Number(width.value), (width.max - width.min) / 50) / 100;
  for (const [input, by] of [[width, more], [$("level"), up]])
    input.value = Number(input.value) + by * step;
  applyWindow();
}

$("level").oninput = $("width").oninput = () => applyWindow();
$("reset").onclick = () => (grey.levels ? greyWindow() : plainWindow());

// Other images of the patient

function showOthers() {
  const images = now.others.length ? [now.image, ...now.others] : [];
  $("others").replaceChildren(...images.map((image, number) => {
    const button = element("button", "", { type: "button" });
    const alt = `${number ? "Image" : "The question's image,"} ${number + 1} of ${images.length}, ${image.modality}`;
    button.dataset.id = image.id;
    button.append(element("img", "", { src: `/thumbnail/${image.id}`, alt, loading: "lazy" }));
    button.onclick = () => view(image);
    return button;
  }));
  $("others").hidden = !images.length;
}

function step(by) {
  const images = [now.image, ...now.others];
  const at = images.findIndex((image) => image.id === place.image.id);
  view(images[(at + by + images.length) % images.length]);
}

$("back").onclick = () => view(now.image);

// Keys

function numbered(digit) {
  if (now.kind === "verdict" && !$("why").hidden) chips()[digit - 1]?.click();
  if (now.kind === "preference" && digit <= CHOICES.length) {
    const open = mark() || now.criteria[now.criteria.length - 1];
    const inputs = document.querySelectorAll(`input[name="${open}"]`);
    inputs[digit - 1].checked = true;
    mark();
  }
}

function correct() {
  if ($("why").hidden) return;
  (now.rows[0].options.length ? $("right-options").querySelector("input") : $("correction")).focus();
}

const KEYS = {
  a: () => verdict("accept"),
  t: () => verdict("cannot tell"),
  r: () => now.kind === "verdict" && openWhy($("why").hidden),
  c: correct,
  m: () => $("comment").focus(),
  u: undo,
  w: () => $("reset").click(),
  n: () => step(1),
  p: () => step(-1),
  b: () => view(now.image),
  "+": () => zoom(1.25),
  "-": () => zoom(0.8),
  0: fit,
  "=": () => zoom(1 / place.scale),
  "?": () => $("help").showModal(),
  Enter: () => (now.kind === "verdict" ? sendReject() : sendPair()),
};
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

addEventListener("keydown", (event) => {
  const { key, target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (target.matches("textarea, input[type=text]")) {
    if (key === "Escape") $("question").focus({ preventScroll: true });
    if (key === "Enter" && target.id === "correction") sendReject();
    return;
  }
  if (key === "Enter" && target.matches("button, a")) return;
  if (now.kind === "none" && !["u", "?"].includes(key)) return;
  if (!$("keys-act").checked && key.length === 1 && target !== stage) return;
  const arrow = ARROWS[key];
  if (arrow && !target.matches("input")) {
    if (event.shiftKey) turn(arrow[0] * 8, -arrow[1] * 8);
    else pan(arrow[0] * -40, arrow[1] * -40);
  } else if (/^[1-8]$/.test(key)) numbered(Number(key));
  else if (KEYS[key.length === 1 ? key.toLowerCase() : key]) KEYS[key.length === 1 ? key.toLowerCase() : key]();
  else return;
  event.preventDefault();
});

$("open-help").onclick = () => $("help").showModal();
$("open-counts").onclick = () => $("counts").showModal();
for (const button of document.querySelectorAll("dialog .close"))
  button.onclick = () => button.closest("dialog").close();

async function begin() {
  const [status, item] = await ask("/item");
  if (busy) return;
  tell(status === 200 ? "" : item.error || "The server failed: load the page again.");
  if (status !== 200) return;
  if (item.kind === "none" && item.message === now.message) showProgress(item.progress);
  else show(item, "");
}

setInterval(() => { if (now.kind === "none" && now.message && !busy) begin(); }, POLL);
begin();
