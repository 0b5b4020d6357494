// The page: songs on the left, one song open on the right, one transport below.

import { json, listen, upload } from './api.js';
import { KnobPanel, inWords } from './knobs.js';
import { Lanes, STEMS } from './lanes.js';
import { Player } from './player.js';

const $ = (id) => document.getElementById(id);
const songs = new Map();
const removed = new Set(); // ids
const rows = new Map(); // song → its row in the list
const player = new Player();
const lanes = new Lanes($('lanes'), $('timeline'));
const mixer = Object.fromEntries(STEMS.map((stem) => [stem, { mute: stem === 'mixture', solo: false, gain: 1 }]));
let studio = null;
let panel = null;
let open = null; // id of the song that is shown
let pair = { a: null, b: null }; // takes
let heard = 'a';
let region = null;
let looping = false;
let asking = null; // what the dialog is for

// ---------------------------------------------------------------- words

function clock(seconds, tenths = false) {
  const s = Math.max(0, seconds);
  const rest = tenths ? (Math.floor(s * 10) / 10 % 60).toFixed(1).padStart(4, '0') : String(Math.floor(s) % 60).padStart(2, '0');
  return `${Math.floor(s / 60)}:${rest}`;
}

function left(seconds) {
  if (seconds === null || seconds === undefined) return '';
  if (seconds < 5) return 'a few seconds left';
  if (seconds < 90) return `${Math.ceil(seconds / 5) * 5} s left`;
  return `${Math.ceil(seconds / 60)} min left`;
}

function size(bytes) { return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`; }

function toast(text, bad = true) {
  const box = $('toasts');
  if ([...box.children].some((each) => each.textContent === text)) return;
  const element = Object.assign(document.createElement('p'), { textContent: text, className: bad ? 'bad' : '' });
  box.append(element);
  setTimeout(() => element.remove(), bad ? 8000 : 4000);
}

async function attempt(work) {
  try { return await work(); } catch (error) { toast(error.message); return undefined; }
}

// ---------------------------------------------------------------- uploads

const waiting = []; // files that are still to be sent
let sending = 0;

function add(files) {
  for (const file of files) {
    if (file.size > studio.largest_upload) toast(`${file.name}: has more than ${size(studio.largest_upload)}`);
    else if (!file.size) toast(`${file.name}: is empty`);
    else wait({ file, row: uploadRow(file) });
  }
  showNothing();
  while (sending < 3 && waiting.length) send(waiting.shift());
}

/** Have a file sent in its turn, unless its row is closed before. */
function wait(next) {
  waiting.push(next);
  next.row.querySelector('.act').onclick = () => {
    waiting.splice(waiting.indexOf(next), 1);
    next.row.remove();
    showNothing();
  };
}

/** What new songs are separated with: the model and quality that were chosen last. */
function chosen() {
  const model = studio.models.find((each) => each.name === localStorage.getItem('model')) ?? studio.models[0];
  const quality = localStorage.getItem('quality');
  return { model: model.name, quality: quality in model.qualities ? quality : 'balanced' };
}

function offerModels() {
  $('model').append(...studio.models.map(({ name }) => new Option(name, name)));
  $('model').value = chosen().model;
  $('model').onchange = () => { localStorage.setItem('model', $('model').value); offerQualities(); };
  $('model').hidden = studio.models.length < 2;
  offerQualities();
}

function offerQualities() {
  const { model } = chosen();
  const names = Object.keys(studio.models.find((each) => each.name === model).qualities);
  $('quality').hidden = names.length < 2;
  $('quality').replaceChildren(...names.map((name) => {
    const button = Object.assign(document.createElement('button'), { textContent: name[0].toUpperCase() + name.slice(1) });
    button.dataset.quality = name;
    button.onclick = () => { localStorage.setItem('quality', name); showQuality(); };
    return button;
  }));
  showQuality();
}

function showQuality() {
  for (const button of $('quality').children) button.setAttribute('aria-pressed', button.dataset.quality === chosen().quality);
}

async function send({ file, row }) {
  sending += 1;
  const stop = new AbortController();
  row.querySelector('.act').onclick = () => stop.abort();
  try {
    const song = await upload(file, chosen(), (share) => { row.querySelector('i').style.width = `${100 * share}%`; }, stop.signal);
    take(song);
    if (!open) show(song.id);
  } catch (error) {
    toast(`${file.name}: ${error.message.replace(`${song_name(file.name)}: `, '')}`, !stop.signal.aborted);
  } finally {
    row.remove();
    sending -= 1;
    showNothing();
    if (waiting.length) send(waiting.shift());
  }
}

function song_name(name) { return name.replace(/\.[A-Za-z0-9]{1,5}$/, ''); }

function uploadRow(file) {
  const row = songRow();
  row.classList.add('working');
  row.querySelector('.name').textContent = song_name(file.name);
  row.querySelector('.state').textContent = `sending ${size(file.size)}`;
  row.querySelector('.open').disabled = true;
  row.querySelector('.act').setAttribute('aria-label', `Stop sending ${file.name}`);
  $('songs').append(row);
  return row;
}

async function filesOf(items) {
  const found = [];
  async function walk(entry) {
    if (entry.isFile) {
      found.push(await new Promise((resolve, reject) => { entry.file(resolve, reject); }));
    } else if (entry.isDirectory) {
      const reader = entry.createReader();
      for (;;) {
        const batch = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
        if (!batch.length) break;
        for (const each of batch) await walk(each);
      }
    }
  }
  const entries = [...items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const folder = entries.some((entry) => entry.isDirectory);
  for (const entry of entries) await walk(entry);
  return folder ? onlySongs(found) : found;
}

function onlySongs(files) {
  return [...files].filter((file) => !file.name.startsWith('.')
    && (/^(audio|video)\//.test(file.type) || /\.(aac|aiff?|flac|m4a|mka|mp3|mp4|og[ag]|opus|wav|webm|wma)$/i.test(file.name)));
}

// ---------------------------------------------------------------- the list of songs

function songRow() {
  const row = document.createElement('li');
  row.innerHTML = `<button class="open"><span class="name"></span><span class="state"></span></button>
    <button class="act icon"><svg viewBox="0 0 24 24"><path d="M6 6l12 12M18 6L6 18"/></svg></button>
    <button class="retry" hidden>Retry</button><div class="bar"><i></i></div>`;
  return row;
}

/** What goes on with a song: the take that is made, or waits, or failed. */
function active(song) {
  return song.takes.find((each) => each.status === 'working')
    ?? song.takes.find((each) => each.status === 'queued')
    ?? (song.takes.some((each) => each.status === 'done') ? null : song.takes.at(-1) ?? null);
}

function showRow(song) {
  let row = rows.get(song.id);
  if (!row) {
    row = songRow();
    rows.set(song.id, row);
    row.querySelector('.open').onclick = () => show(song.id);
    $('songs').append(row);
  }
  const now = active(song);
  const length = song.ready ? clock(song.frames / song.sample_rate) : size(song.bytes);
  const takes = song.takes.filter((each) => each.status === 'done').length;
  const states = {
    working: `${now?.start !== null && now ? 'redoing' : 'separating'} · ${Math.round(100 * (now?.progress ?? 0))} %${now?.seconds_left ? ` · ${left(now.seconds_left)}` : ''}`,
    queued: `waiting · ${length}`,
    failed: now?.error ?? 'failed',
    cancelled: 'cancelled',
  };
  row.className = now?.status ?? 'done';
  row.classList.toggle('current', song.id === open);
  row.querySelector('.open').setAttribute('aria-current', song.id === open);
  row.querySelector('.name').textContent = song.name;
  row.querySelector('.state').textContent = now ? states[now.status] : `${length} · ${takes === 1 ? '1 take' : `${takes} takes`}`;
  row.querySelector('.bar i').style.width = `${100 * (now?.status === 'working' ? now.progress : 0)}%`;
  const busy = now && ['working', 'queued'].includes(now.status);
  const act = row.querySelector('.act');
  act.setAttribute('aria-label', busy ? `Cancel ${song.name}` : `Remove ${song.name}`);
  act.title = busy ? 'Cancel' : 'Remove';
  act.onclick = () => attempt(() => (busy
    ? json(`/api/songs/${song.id}/takes/${now.id}/cancel`, 'POST')
    : confirm(`Remove “${song.name}” and its takes?`) && json(`/api/songs/${song.id}`, 'DELETE')));
  const retry = row.querySelector('.retry');
  retry.hidden = !now || !['failed', 'cancelled'].includes(now.status);
  retry.setAttribute('aria-label', `Retry ${song.name}`);
  retry.onclick = () => attempt(() => json(`/api/songs/${song.id}/takes/${now.id}/retry`, 'POST'));
}

function showNothing() { $('nothing').hidden = $('songs').children.length > 0; }

function take(song) {
  // News may overtake an answer that was given before them.
  if (removed.has(song.id) || song.revision < songs.get(song.id)?.revision) return;
  songs.set(song.id, song);
  showRow(song);
  showNothing();
  if (song.id === open) showSong();
}

function gone(id) {
  removed.add(id);
  songs.delete(id);
  rows.get(id)?.remove();
  rows.delete(id);
  showNothing();
  if (id === open) { open = null; player.load(null); showSong(); }
}

// ---------------------------------------------------------------- the song that is open

function show(id) {
  if (open !== id) {
    open = id;
    player.load(null);
    pair = { a: null, b: null };
    heard = 'a';
    region = null;
    looping = false;
    shownTakes = '';
    history.replaceState(null, '', `#${id}`);
    for (const song of songs.values()) showRow(song);
  }
  document.body.classList.add('inside');
  showSong();
}

function done(song) { return song.takes.filter((each) => each.status === 'done'); }

function showSong() {
  const song = songs.get(open);
  $('welcome').hidden = Boolean(song);
  $('song').hidden = !song;
  $('transport').hidden = !song?.ready;
  document.body.classList.toggle('inside', Boolean(song) && document.body.classList.contains('inside'));
  if (!song) return;
  $('title').textContent = song.name;
  $('facts').textContent = song.ready
    ? `${clock(song.frames / song.sample_rate)} · ${(song.sample_rate / 1000).toFixed(1)} kHz · ${song.channels === 1 ? 'mono' : 'stereo'}` : size(song.bytes);
  document.title = `${song.name} – solovox studio`;
  showWork(song);
  const before = song.current;
  const there = done(song);
  if (shownCurrent !== `${song.id}/${before}`) { // a take was made, or chosen, here or in another window
    shownCurrent = `${song.id}/${before}`;
    const current = there.find((each) => each.id === before) ?? null;
    pair.a = current?.id ?? null;
    if (current?.parent && there.some((each) => each.id === current.parent)) pair.b = current.parent;
    heard = 'a';
    if (current?.start !== null && current?.start !== undefined && !region) select({ start: current.start, end: current.end });
  }
  if (!there.some((each) => each.id === pair.a)) pair.a = there.at(-1)?.id ?? null;
  if (!there.some((each) => each.id === pair.b) || pair.b === pair.a) pair.b = there.filter((each) => each.id !== pair.a).at(-1)?.id ?? null;
  showTakes(song);
  showDownload(song);
  if (!song.ready) { lanes.show({ ...song, frames: 1, sample_rate: 1 }, {}).catch(() => {}); return; }
  if (player.song?.id !== song.id) player.load(song);
  $('length').textContent = clock(song.frames / song.sample_rate);
  $('seek').max = song.frames / song.sample_rate;
  showHeard();
}

let shownCurrent = '';
let shownTakes = '';

function showWork(song) {
  const now = active(song);
  const box = $('working');
  box.hidden = !now || now.status === 'done';
  if (box.hidden) return;
  box.className = `working ${now.status}`;
  box.querySelector('i').style.width = `${100 * now.progress}%`;
  const what = now.start === null ? 'Separating' : `Generating ${clock(now.start, true)} to ${clock(now.end, true)} again`;
  box.querySelector('p').textContent = {
    working: `${what} · ${Math.round(100 * now.progress)} %${now.seconds_left ? ` · ${left(now.seconds_left)}` : ''}`,
    queued: 'Waiting for its turn', failed: now.error, cancelled: 'Cancelled: retry it in the list of songs',
  }[now.status];
}

/** Tell player and lanes which takes are compared and which is heard. */
function showHeard() {
  const song = songs.get(open);
  if (!song?.ready) return;
  if (heard === 'b' && !pair.b) heard = 'a';
  const shown = pair[heard];
  const track = (stem) => (stem === 'mixture' ? stem : shown && `${shown}.${stem}`);
  const doubt = song.takes.find((each) => each.id === shown)?.doubt;
  attempt(() => lanes.show(song, Object.fromEntries(STEMS.map((stem) => [stem, track(stem)])), doubt));
  const solo = STEMS.some((stem) => mixer[stem].solo);
  const alone = !shown; // nothing separated yet: the mixture is all there is
  const gain = (stem) => {
    if (alone) return stem === 'mixture' ? mixer[stem].gain : 0;
    return (solo ? mixer[stem].solo : !mixer[stem].mute) ? mixer[stem].gain : 0;
  };
  const gains = new Map([['mixture', gain('mixture')]]);
  for (const slot of ['a', 'b']) {
    if (!pair[slot]) continue;
    for (const stem of STEMS.slice(1)) gains.set(`${pair[slot]}.${stem}`, slot === heard ? gain(stem) : 0);
  }
  player.setTracks(gains);
  for (const stem of STEMS) lanes.set(stem, { ...mixer[stem], heard: gain(stem) > 0 });
  const number = (id) => song.takes.find((each) => each.id === id)?.number;
  for (const slot of ['a', 'b']) {
    const button = $(`hear-${slot}`);
    button.setAttribute('aria-pressed', heard === slot);
    button.disabled = !pair[slot];
    button.querySelector('span').textContent = pair[slot] ? `Take ${number(pair[slot])}` : '–';
    button.setAttribute('aria-label', pair[slot] ? `Hear ${slot.toUpperCase()}, take ${number(pair[slot])}` : `${slot.toUpperCase()}: no take`);
  }
  lanes.select(region);
  showRegion();
}

function hear(slot) {
  if (!pair[slot] || heard === slot) return;
  heard = slot;
  showHeard();
  showTakes(songs.get(open));
  showDownload(songs.get(open));
}

// ---------------------------------------------------------------- takes

function showTakes(song) {
  const key = JSON.stringify([song.id, pair, heard, song.current, song.takes.map(({ id, status, error, seconds }) => [id, status, error, seconds])]);
  if (key !== shownTakes) {
    shownTakes = key;
    keepingFocus($('takes'), () => $('takes').replaceChildren(...song.takes.map((each) => takeRow(song, each)).reverse()));
  }
  for (const each of song.takes) {
    const bar = document.querySelector(`[data-take="${each.id}"] .bar i`);
    if (bar) bar.style.width = `${100 * each.progress}%`;
  }
  const shown = song.takes.find((each) => each.id === pair.a);
  $('undo').disabled = !shown?.parent;
}

/** Make rows of takes anew; the button that had the focus has it again, or the first of its take. */
function keepingFocus(list, work) {
  const before = list.contains(document.activeElement) ? document.activeElement : null;
  const label = before?.getAttribute('aria-label');
  work();
  if (!before) return;
  const same = [...list.querySelectorAll('button')].find((button) => button.getAttribute('aria-label') === label);
  const row = [...list.children].find((each) => each.dataset.take === before.closest('li').dataset.take);
  (same ?? row?.querySelector('button'))?.focus({ preventScroll: true });
}

function takeRow(song, each) {
  const row = document.createElement('li');
  row.dataset.take = each.id;
  row.className = each.status;
  const redone = each.start !== null;
  const parent = song.takes.find((other) => other.id === each.parent);
  const title = redone ? `${clock(each.start, true)} – ${clock(each.end, true)} again` : 'Whole song';
  row.innerHTML = '<div class="slots"></div><div class="about"><p class="name"></p><p class="hint"></p><div class="bar"><i></i></div></div><div class="acts"></div>';
  row.querySelector('.name').append(Object.assign(document.createElement('b'), { textContent: `Take ${each.number}` }), ` ${title}`);
  const after = { done: each.seconds ? ` · made in ${each.seconds < 10 ? each.seconds.toFixed(1) : Math.round(each.seconds)} s` : '', failed: ` · ${each.error}` }[each.status] ?? ` · ${each.status}`;
  row.querySelector('.hint').textContent = `${inWords(each, studio)}${parent ? ` · from take ${parent.number}` : ''}${after}`;
  if (each.status === 'done') {
    for (const slot of ['a', 'b']) {
      const button = Object.assign(document.createElement('button'), { textContent: slot.toUpperCase() });
      button.setAttribute('aria-pressed', pair[slot] === each.id);
      button.setAttribute('aria-label', `Take ${each.number} as ${slot.toUpperCase()}`);
      button.onclick = () => choose(slot, each.id);
      row.querySelector('.slots').append(button);
    }
  }
  const act = (text, label, work) => {
    const button = Object.assign(document.createElement('button'), { textContent: text, className: 'quiet', onclick: () => attempt(work) });
    button.setAttribute('aria-label', `${label} take ${each.number}`);
    row.querySelector('.acts').append(button);
  };
  const path = `/api/songs/${song.id}/takes/${each.id}`;
  if (['queued', 'working'].includes(each.status)) act('Cancel', 'Cancel', () => json(`${path}/cancel`, 'POST'));
  else {
    if (each.status !== 'done') act('Retry', 'Retry', () => json(`${path}/retry`, 'POST'));
    if (each.status !== 'done' || done(song).length > 1) act('Remove', 'Remove', () => json(path, 'DELETE'));
  }
  return row;
}

function choose(slot, id) {
  const other = slot === 'a' ? 'b' : 'a';
  if (pair[other] === id) pair[other] = pair[slot];
  pair[slot] = id;
  heard = slot;
  if (slot === 'a') {
    shownCurrent = `${open}/${id}`;
    attempt(() => json(`/api/songs/${open}`, 'PATCH', { current: id }));
  }
  shownTakes = '';
  showSong();
}

function undo() {
  const song = songs.get(open);
  const shown = song?.takes.find((each) => each.id === pair.a);
  if (!shown?.parent) return;
  pair.b = shown.id;
  pair.a = null;
  choose('a', shown.parent);
  toast(`Back to take ${song.takes.find((each) => each.id === shown.parent)?.number}; take ${shown.number} is kept as B`, false);
}

function showDownload(song) {
  const id = pair[heard];
  const shown = song.takes.find((each) => each.id === id);
  const [format, bits] = $('format').value.split(':');
  for (const stem of STEMS.slice(1)) {
    link(`get-${stem}`, shown && `/api/songs/${song.id}/takes/${id}/stems/${stem}?format=${format}${bits ? `&bits=${bits}` : ''}`);
  }
  link('get-settings', shown && `/api/songs/${song.id}/takes/${id}/settings`);
  const loud = shown ? Math.max(0, ...Object.values(shown.loudest)) : 0;
  $('clips').hidden = !(loud > 1 && (bits === '16' || bits === '24'));
  $('clips').textContent = `Peaks reach ${(20 * Math.log10(Math.max(loud, 1e-9))).toFixed(1)} dB above full scale: choose float wav to keep them.`;
  $('download-title').textContent = shown ? `Download take ${shown.number}` : 'Download';
}

function link(id, path) {
  const element = $(id);
  if (path) element.href = path; else element.removeAttribute('href');
  element.setAttribute('aria-disabled', !path);
}

// ---------------------------------------------------------------- the selection

function select(next) {
  const song = songs.get(open);
  if (!song?.ready) return;
  const seconds = song.frames / song.sample_rate;
  if (next) {
    const start = Math.max(0, Math.min(next.start, seconds - 0.05));
    next = { start: +start.toFixed(3), end: +Math.min(seconds, Math.max(next.end, start + 0.05)).toFixed(3) };
  }
  region = next;
  if (!region) looping = false;
  lanes.select(region);
  showRegion();
  applyLoop();
}

function showRegion() {
  const song = songs.get(open);
  $('no-region').hidden = Boolean(region);
  $('has-region').hidden = !region;
  $('loop').setAttribute('aria-pressed', looping);
  $('redo').disabled = !song || !pair[heard];
  if (!region) return;
  for (const [id, value] of [['from', region.start], ['to', region.end]]) {
    if (document.activeElement !== $(id)) $(id).value = value.toFixed(2);
  }
}

function applyLoop() {
  const song = songs.get(open);
  const wanted = looping && region && song
    ? { start: Math.round(region.start * song.sample_rate), end: Math.round(region.end * song.sample_rate) } : null;
  if (JSON.stringify(wanted) !== JSON.stringify(player.loop)) player.setLoop(wanted);
}

function loop() {
  if (!region) return;
  looping = !looping;
  showRegion();
  applyLoop();
}

// ---------------------------------------------------------------- new takes

function ask(redo) {
  const song = songs.get(open);
  const from = song?.takes.find((each) => each.id === pair[heard]);
  if (!song || (redo && (!song.ready || !region || !from))) return;
  asking = redo ? { parent: from.id, ...region } : {};
  $('knobs-title').textContent = redo ? `Generate ${clock(region.start, true)} – ${clock(region.end, true)} again` : 'New take of the whole song';
  $('knobs-what').textContent = redo
    ? `Only this moment of take ${from.number} is made anew and crossfaded into the rest. Every take is kept.`
    : 'Made beside the takes there are, to be compared with them.';
  panel.fill(from?.knobs ?? { seed: 0 });
  panel.roll();
  $('knobs').returnValue = '';
  $('knobs').showModal();
  $('go').focus();
}

async function answered() {
  if ($('knobs').returnValue !== 'go') return;
  const song = await attempt(() => json(`/api/songs/${open}/takes`, 'POST', { ...asking, knobs: panel.read() }));
  if (song) take(song);
}

// ---------------------------------------------------------------- transport

function frame() {
  if (open && player.song) {
    const { seconds } = player;
    lanes.time(seconds, player.playing);
    const text = clock(seconds, true);
    if ($('now').textContent !== text) $('now').textContent = text;
    if (document.activeElement !== $('seek') || player.playing) $('seek').value = seconds;
    $('seek').setAttribute('aria-valuetext', text);
  }
  requestAnimationFrame(frame);
}

function showPlaying() {
  $('play').setAttribute('aria-label', player.playing ? 'Pause' : 'Play');
  $('play').classList.toggle('playing', player.playing);
  $('play').classList.toggle('waiting', player.playing && player.waiting);
}

function toggle() { attempt(() => (player.playing ? player.pause() : player.play())); }

function doubts(shown) {
  localStorage.setItem('doubt', shown ? 'shown' : 'hidden');
  lanes.showDoubt(shown);
}

function strip({ stem, kind, value }) {
  const channel = mixer[stem];
  if (kind === 'gain') channel.gain = value;
  else channel[kind] = !channel[kind];
  showHeard();
}

const KEYS = {
  ' ': toggle,
  a: () => hear('a'),
  b: () => hear('b'),
  x: () => hear(heard === 'a' ? 'b' : 'a'),
  l: loop,
  r: () => ask(true),
  u: undo,
  '[': () => select({ start: player.seconds, end: Math.max(region?.end ?? 0, player.seconds + 1) }),
  ']': () => select({ start: Math.min(region?.start ?? Infinity, player.seconds - 0.05), end: player.seconds }),
  '+': () => lanes.zoom(2),
  '=': () => lanes.zoom(2),
  '-': () => lanes.zoom(0.5),
  '?': () => $('keys').showModal(),
  Escape: () => select(null),
};

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
  const at = event.target;
  const typing = at.matches('input:not([type=range]), select, textarea');
  if (typing) return;
  const digit = /^Digit([123])$/.exec(event.code);
  if (digit && open) {
    strip({ stem: STEMS[digit[1] - 1], kind: event.shiftKey ? 'mute' : 'solo' });
  } else if (event.key.startsWith('Arrow')) {
    if (at.matches('input[type=range]') || !['ArrowLeft', 'ArrowRight'].includes(event.key) || !player.song) return;
    const step = (event.shiftKey ? 0.1 : 2) * (event.key === 'ArrowLeft' ? -1 : 1);
    player.seek((player.seconds + step) * player.rate);
  } else {
    const work = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!work || !open || (event.key === ' ' && at.matches('button, a, summary'))) return;
    work();
  }
  event.preventDefault();
}

// ---------------------------------------------------------------- begin

function wire() {
  $('pick').onclick = () => $('files').click();
  $('pick-folder').onclick = () => $('folder').click();
  $('files').onchange = (event) => { add(event.target.files); event.target.value = ''; };
  $('folder').onchange = (event) => { add(onlySongs(event.target.files)); event.target.value = ''; };
  let depth = 0;
  addEventListener('dragenter', (event) => { if (event.dataTransfer?.types.includes('Files')) { depth += 1; $('dropping').hidden = false; } });
  addEventListener('dragleave', () => { depth = Math.max(0, depth - 1); if (!depth) $('dropping').hidden = true; });
  addEventListener('dragover', (event) => event.preventDefault());
  addEventListener('drop', async (event) => {
    event.preventDefault();
    depth = 0;
    $('dropping').hidden = true;
    const direct = [...event.dataTransfer.files];
    const found = await filesOf(event.dataTransfer.items).catch(() => []);
    add(found.length ? found : direct);
  });
  $('back').onclick = () => { document.body.classList.remove('inside'); $('pick').focus(); };
  $('play').onclick = toggle;
  $('seek').oninput = (event) => player.seek(+event.target.value * player.rate);
  $('hear-a').onclick = () => hear('a');
  $('hear-b').onclick = () => hear('b');
  $('loop').onclick = loop;
  $('redo').onclick = () => ask(true);
  $('new-take').onclick = () => ask(false);
  $('clear').onclick = () => select(null);
  $('undo').onclick = undo;
  $('help').onclick = () => $('keys').showModal();
  $('zoom-in').onclick = () => lanes.zoom(2);
  $('zoom-out').onclick = () => lanes.zoom(0.5);
  $('format').onchange = () => showDownload(songs.get(open));
  $('as-tuned').onclick = () => panel.asTuned();
  for (const button of $('knobs').querySelectorAll('[value=cancel]')) button.onclick = () => $('knobs').close('cancel'); // Enter is for #go
  $('knobs').addEventListener('close', answered);
  for (const id of ['from', 'to']) {
    $(id).onchange = () => select({ start: +$('from').value, end: Math.max(+$('to').value, +$('from').value + 0.05) });
  }
  for (const button of document.querySelectorAll('[data-view]')) {
    button.onclick = () => {
      $('lanes').dataset.view = button.dataset.view;
      localStorage.setItem('view', button.dataset.view);
      for (const other of document.querySelectorAll('button[data-view]')) other.setAttribute('aria-pressed', other === button);
    };
    if (button.dataset.view === (localStorage.getItem('view') ?? 'both')) button.click();
  }
  lanes.addEventListener('seek', (event) => player.seek(event.detail * player.rate));
  lanes.addEventListener('select', (event) => select(event.detail));
  lanes.addEventListener('doubt', () => doubts(localStorage.getItem('doubt') === 'hidden'));
  lanes.addEventListener('strip', (event) => strip(event.detail));
  player.addEventListener('change', showPlaying);
  player.addEventListener('problem', (event) => toast(event.detail));
  addEventListener('keydown', key);
}

async function begin() {
  studio = await json('/api/studio');
  panel = new KnobPanel($('knob-list'), studio);
  panel.fill({ seed: 0 });
  offerModels();
  wire();
  doubts(localStorage.getItem('doubt') !== 'hidden');
  listen({
    songs(all) {
      const ids = new Set(all.map((song) => song.id));
      for (const id of [...songs.keys()]) if (!ids.has(id)) gone(id);
      songs.clear(); // whatever the server says now counts: it may have begun anew
      for (const song of all) take(song);
      const asked = location.hash.slice(1);
      if (!open && songs.has(asked)) show(asked);
    },
    song: take,
    removed: gone,
    queue: ({ seconds_left: seconds }) => { $('queue-left').textContent = seconds ? left(seconds) : ''; },
    connected: (there) => document.body.classList.toggle('offline', !there),
  });
  requestAnimationFrame(frame);
  document.body.dataset.ready = 'true';
}

globalThis.studio = { player, lanes, songs, get open() { return open; }, get region() { return region; }, get pair() { return pair; }, get heard() { return heard; }, select, hear };
begin().catch((error) => toast(error.message));
