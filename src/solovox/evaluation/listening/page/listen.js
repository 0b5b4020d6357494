// The page of a listening test. No library, no network but its own server.
//
// State: `said` is all that the listener has said. It is kept in localStorage and sent to the
// server whenever it changes, with a revision that only grows. `window` names this page and `seen`
// is the last revision that the server has said to have: by them it refuses a page that does not
// know what was said in another window since. It is the server, too, that chooses between its copy
// and the one that is kept when the page is opened again.
"use strict";

const $ = (id) => document.getElementById(id);
const KEY = "solovox-listening " + location.origin + location.pathname;
const LABELS = ["Bad", "Poor", "Fair", "Good", "Excellent"];
const SECTIONS = ["loading", "intro", "page", "end", "thanks", "elsewhere"];
const WINDOW = Math.random().toString(36).slice(2);
const SWITCH = 0.015; // seconds of the crossfade from one version to another
const SHORTEST = 0.5; // seconds of the shortest part that is repeated

let study = null; // what the server says: title, pages in this listener's order
let said = null; // what the listener says
const encoded = new Map(); // token → file

// ---- sound: all versions of a page run at once, in step; one of them is let through ------------

const player = {
  context: null, master: null, meter: null,
  buffers: new Map(), voices: new Map(), // token → AudioBuffer; token → {source, gain}
  current: null, playing: false, started: 0, from: 0, to: 0, loads: 0,

  wake() {
    if (!this.context) {
      this.context = new AudioContext();
      this.master = this.context.createGain();
      this.meter = this.context.createAnalyser();
      this.master.connect(this.meter).connect(this.context.destination);
    }
    return this.context.resume();
  },

  async load(tokens) { // whether they are there now, and not what was asked for later
    const load = ++this.loads;
    await this.wake();
    const decoded = new Map();
    await Promise.all(tokens.map(async (token) => {
      const file = await fetched(token);
      decoded.set(token, await this.context.decodeAudioData(file.slice(0)));
    }));
    if (load !== this.loads) return false;
    this.stop();
    this.buffers = decoded;
    this.from = 0;
    this.to = Math.min(...[...this.buffers.values()].map((buffer) => buffer.duration));
    return true;
  },

  async play(token) {
    await this.wake();
    if (!this.buffers.has(token)) return;
    this.current = token;
    if (!this.playing) this.start();
    const now = this.context.currentTime;
    for (const [name, { gain }] of this.voices) {
      gain.gain.cancelScheduledValues(now);
      gain.gain.setValueAtTime(gain.gain.value, now);
      gain.gain.linearRampToValueAtTime(name === token ? 1 : 0, now + SWITCH);
    }
  },

  start() {
    this.started = this.context.currentTime + 0.03; // one moment for all: they stay in step
    for (const [token, buffer] of this.buffers) {
      const source = new AudioBufferSourceNode(this.context, {
        buffer, loop: true, loopStart: this.from, loopEnd: this.to });
      const gain = new GainNode(this.context, { gain: 0 });
      source.connect(gain).connect(this.master);
      source.start(this.started, this.from);
      this.voices.set(token, { source, gain });
    }
    this.playing = true;
  },

  stop() {
    if (!this.playing) return;
    const now = this.context.currentTime;
    for (const { source, gain } of this.voices.values()) {
      gain.gain.cancelScheduledValues(now);
      gain.gain.setTargetAtTime(0, now, SWITCH / 3);
      source.stop(now + 2 * SWITCH);
    }
    this.voices.clear();
    this.playing = false;
  },

  loop(from, to) {
    this.from = from;
    this.to = to;
    if (!this.playing) return;
    const token = this.current;
    this.stop();
    this.play(token);
  },

  position() {
    if (!this.playing) return this.from;
    const since = Math.max(0, this.context.currentTime - this.started);
    return this.from + (since % (this.to - this.from));
  },

  level() { // RMS of what is heard now
    if (!this.meter) return 0;
    const wave = new Float32Array(this.meter.fftSize);
    this.meter.getFloatTimeDomainData(wave);
    return Math.sqrt(wave.reduce((sum, x) => sum + x * x, 0) / wave.length);
  },
};

async function fetched(token) {
  if (!encoded.has(token)) {
    const answer = await fetch("audio/" + token + ".flac");
    if (!answer.ok) throw new Error("a version cannot be loaded");
    encoded.set(token, await answer.arrayBuffer());
  }
  return encoded.get(token);
}

async function fetchRest() { // so that a lost connection does not stop the test
  for (const page of study.pages) {
    for (const token of [page.reference, ...page.stimuli]) {
      try { await fetched(token); } catch { return; } // tried again when the page is turned
    }
  }
}

// ---- saving ------------------------------------------------------------------------------------

let dirty = false, sending = false, timer = 0;
let stale = false; // the test goes on in another window: nothing of this one counts any more

function changed() {
  if (stale) return;
  said.revision += 1;
  localStorage.setItem(KEY, JSON.stringify({ listener: study.listener, said }));
  dirty = true;
  show("Saving…", true);
  clearTimeout(timer);
  timer = setTimeout(send, 200);
}

async function put(listener, what) { // → what the server has, or the status and error if it refuses
  const answer = await fetch("api/listeners/" + listener, {
    method: "PUT", body: JSON.stringify(what), headers: { "Content-Type": "application/json" } });
  if (answer.ok) return answer.json();
  const { error } = await answer.json().catch(() => ({}));
  return { status: answer.status, error: error ?? `the server answers ${answer.status}` };
}

async function send() {
  if (sending || !dirty || stale) return;
  sending = true;
  dirty = false;
  let trouble = "";
  try {
    const there = await put(study.listener, said);
    if (there.error) trouble = `Kept in this browser, not saved: ${there.error}`;
    else if (there.window !== WINDOW) stale = true;
    else said.seen = there.revision;
  } catch {
    trouble = "No connection: kept in this browser, not sent yet";
  }
  sending = false;
  if (stale) {
    show("Not saved", true);
    return section("elsewhere");
  }
  dirty ||= trouble !== "";
  if (trouble) show(trouble, true);
  else if (!dirty) show("Saved");
  if (dirty) { clearTimeout(timer); timer = setTimeout(send, 1500); }
}

function show(text, waiting = false) {
  $("saved").textContent = text;
  $("saved").classList.toggle("waiting", waiting && text !== "Saving…");
  $("thanks-text").textContent = text === "Saved"
    ? "Your ratings are saved; you can close this page."
    : "Not sent yet: leave this page open.";
}

addEventListener("pagehide", () => {
  if (stale || !(dirty || sending)) return;
  navigator.sendBeacon("api/listeners/" + study.listener, JSON.stringify(said));
});
addEventListener("online", send);

// ---- pages -------------------------------------------------------------------------------------

let heard = new Set(), opened = 0, row = [];

function section(name) {
  if (stale) name = "elsewhere";
  for (const other of SECTIONS) $(other).hidden = other !== name;
  if (name !== "page") player.stop();
  scrollTo(0, 0);
}

function entry() { // what was said of the page that is shown
  const number = study.pages[said.current].page;
  said.pages[number] ??= { ratings: {}, done: false, seconds: 0 };
  return said.pages[number];
}

async function turn(to) {
  player.stop();
  said.current = to;
  changed();
  if (to >= study.pages.length) return section("end");
  section("loading");
  const page = study.pages[to];
  try {
    if (!await player.load([page.reference, ...page.stimuli])) return;
  } catch {
    $("loading-text").textContent = "No connection. Trying again…";
    return setTimeout(() => turn(to), 2000);
  }
  $("progress").textContent = `Song ${to + 1} of ${study.pages.length}`;
  heard = new Set(Object.keys(entry().ratings));
  opened = performance.now();
  $("from").value = 0;
  $("to").value = 1;
  row = page.stimuli.map(stimulus);
  $("stimuli").replaceChildren(...row.map((item) => item.element));
  $("back").disabled = to === 0;
  section("page");
  refresh();
  $("reference").focus();
}

function stimulus(token, index) {
  const letter = String.fromCharCode(65 + index);
  const element = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.append(letter + " ");
  const key = document.createElement("kbd");
  key.textContent = index + 1;
  button.append(key);
  button.setAttribute("aria-label", "Version " + letter);
  const slider = document.createElement("input");
  Object.assign(slider, { type: "range", min: 0, max: 100, step: 1 });
  slider.value = entry().ratings[token] ?? 0;
  slider.setAttribute("aria-label", "Rating of version " + letter);
  const output = document.createElement("output");
  element.append(button, slider, output);
  const rate = () => {
    if (entry().ratings[token] === Number(slider.value)) return;
    entry().ratings[token] = Number(slider.value);
    changed();
    refresh();
  };
  button.addEventListener("click", () => listen(token));
  slider.addEventListener("pointerdown", () => listen(token));
  slider.addEventListener("input", rate);
  slider.addEventListener("pointerup", rate); // a rating of 0 does not move the slider
  slider.addEventListener("keyup", (event) => { if (event.key === "Home") rate(); });
  return { token, element, button, slider, output };
}

async function listen(token) {
  await player.play(token);
  heard.add(token);
  refresh();
}

function refresh() {
  const ratings = entry().ratings;
  for (const { token, element, button, slider, output } of row) {
    const rated = token in ratings;
    element.classList.toggle("unrated", !rated);
    output.textContent = rated ? ratings[token] : "–";
    const label = LABELS[Math.min(4, Math.floor(slider.value / 20))];
    slider.setAttribute("aria-valuetext", rated ? `${ratings[token]}, ${label}` : "not rated yet");
    button.setAttribute("aria-pressed", player.playing && player.current === token);
  }
  const open = study.pages[said.current].reference;
  $("reference").setAttribute("aria-pressed", player.playing && player.current === open);
  $("stop").textContent = player.playing ? "Stop" : "Play";
  const missing = reason(ratings);
  $("why").textContent = missing;
  $("next").disabled = missing !== "";
}

function reason(ratings) {
  const unheard = row.filter(({ token }) => !heard.has(token)).length;
  const unrated = row.filter(({ token }) => !(token in ratings)).length;
  if (unheard) return `${unheard} still to be heard.`;
  if (unrated) return `${unrated} still to be rated.`;
  if (!row.some(({ token }) => ratings[token] === 100)) {
    return "One version is the reference itself: give 100 to the one you think it is.";
  }
  return "";
}

function leave(step) {
  const page = entry();
  page.seconds += (performance.now() - opened) / 1000;
  page.done = page.done || step > 0;
  turn(said.current + step);
}

function toggle() {
  if (player.playing) player.stop();
  else player.play(player.buffers.has(player.current) ? player.current
    : study.pages[said.current].reference);
  setTimeout(refresh, 0);
}

function loopChanged(moved) {
  const length = Math.min(...[...player.buffers.values()].map((buffer) => buffer.duration));
  const least = Math.min(1, SHORTEST / length);
  let from = Number($("from").value), to = Number($("to").value);
  if (to - from < least) {
    if (moved === "from") from = Math.max(0, to - least);
    else to = Math.min(1, from + least);
    if (to - from < least) [from, to] = moved === "from" ? [0, least] : [1 - least, 1];
  }
  $("from").value = from;
  $("to").value = to;
  player.loop(from * length, to * length);
}

function animate() {
  if (!$("page").hidden && player.buffers.size) {
    const length = Math.min(...[...player.buffers.values()].map((buffer) => buffer.duration));
    $("playhead").style.left = `${(100 * player.position()) / length}%`;
  }
  requestAnimationFrame(animate);
}

$("stop").addEventListener("click", toggle);
$("reference").addEventListener("click", () => listen(study.pages[said.current].reference));
$("from").addEventListener("input", () => loopChanged("from"));
$("to").addEventListener("input", () => loopChanged("to"));
$("next").addEventListener("click", () => leave(1));
$("back").addEventListener("click", () => leave(-1));
$("end-back").addEventListener("click", () => turn(study.pages.length - 1));
$("try").addEventListener("click", async () => {
  const token = study.pages[0].reference;
  if (player.playing) return player.stop();
  if (await player.load([token])) await player.play(token);
});
$("begin").addEventListener("click", () => turn(Math.min(said.current, study.pages.length)));
$("finish").addEventListener("click", async () => {
  said.answers = { headphones: $("headphones").value, comment: $("comment").value };
  said.finished = true;
  changed();
  section("thanks");
});

addEventListener("keyup", (event) => { // Firefox clicks a button now, whatever keydown was told
  const button = event.target.tagName === "BUTTON";
  if (event.key === " " && button && !$("page").hidden) event.preventDefault();
});

addEventListener("keydown", (event) => {
  if ($("page").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  const number = Number(event.key);
  if (event.key.toLowerCase() === "r") listen(study.pages[said.current].reference);
  else if (number >= 1 && number <= row.length) {
    row[number - 1].slider.focus();
    listen(row[number - 1].token);
  } else if (event.key === " ") {
    if (!event.repeat) toggle();
  } else if (event.key === "Enter" && document.activeElement?.tagName !== "BUTTON") {
    if (!$("next").disabled) leave(1);
    else return;
  } else return;
  event.preventDefault();
});

// ---- start -------------------------------------------------------------------------------------

async function begin() {
  const kept = JSON.parse(localStorage.getItem(KEY) ?? "null");
  const fresh = new URLSearchParams(location.search).has("new");
  if (kept) { // the page before may have said what the server does not know
    const { status, error } = await put(kept.listener, kept.said);
    if (status >= 500) throw new Error(error);
  }
  let answer = kept && !fresh ? await fetch("api/listeners/" + kept.listener) : null;
  // Only a listener whom the server does not know starts anew; other trouble may pass.
  if (answer && !answer.ok && answer.status !== 404) throw new Error(await answer.text());
  if (!answer?.ok) {
    const made = await (await fetch("api/listeners", { method: "POST" })).json();
    answer = await fetch("api/listeners/" + made.listener);
    if (fresh) history.replaceState(null, "", location.pathname);
  }
  study = await answer.json();
  said = study.said;
  delete study.said;
  said.current ??= 0;
  said.finished ??= false;
  said.window = WINDOW;
  said.seen = said.revision;
  document.title = $("title").textContent = study.title;
  localStorage.setItem(KEY, JSON.stringify({ listener: study.listener, said }));
  show("Saved");
  section(said.finished ? "thanks" : "intro");
  $("begin").textContent = said.current ? "Go on" : "Begin";
  fetchRest();
  animate();
}

begin().catch(() => {
  $("loading-text").textContent = "The server does not answer. Reload the page to try again.";
});
window.listening = { player, get said() { return said; }, get study() { return study; } };
