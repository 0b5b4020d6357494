// Three tracks under each other: waveform (wavesurfer.js) and spectrogram, one cursor, one selection.

import WaveSurfer from './vendor/wavesurfer.esm.js';
import Regions from './vendor/wavesurfer-regions.esm.js';
import Timeline from './vendor/wavesurfer-timeline.esm.js';
import { picture } from './api.js';

export const STEMS = ['mixture', 'vocals', 'accompaniment'];
const NAMES = { mixture: 'Mixture', vocals: 'Vocals', accompaniment: 'Accompaniment' };
const SHORTEST = 0.05; // seconds of a selection

export class Lanes extends EventTarget {
  #lanes = new Map();
  #region = null;
  #scrolling = false;
  #pxPerSec = 0;
  #loudest = 1;
  #doubting = true;

  seconds = 0;

  constructor(root, timeline) {
    super();
    this.root = root;
    this.timelineAt = timeline;
    for (const stem of STEMS) this.#lanes.set(stem, this.#make(stem));
    matchMedia('(prefers-color-scheme: light)').addEventListener('change', () => this.recolour());
    new ResizeObserver(() => this.#drawSpectrograms()).observe(root);
  }

  /** Show a song; `tracks` has the track of each stem, or null where there is none yet.
   *  With `doubt`, there is a picture of where the samples of the vocals differ. */
  async show(song, tracks, doubt = false) {
    const seconds = song.frames / song.sample_rate;
    if (seconds !== this.seconds || this.song !== song.id) {
      this.song = song.id;
      this.seconds = seconds;
      this.#pxPerSec = 0;
      this.#region = null;
    }
    await Promise.all(STEMS.map((stem) => this.#load(stem, song.id, tracks[stem], doubt && stem === 'vocals')));
  }

  #make(stem) {
    const element = document.createElement('section');
    element.className = `lane ${stem}`;
    element.setAttribute('aria-label', NAMES[stem]);
    element.innerHTML = `
      <div class="strip">
        <h3>${NAMES[stem]}</h3>
        <div class="keys">
          <button class="mute" aria-pressed="false" aria-label="Mute ${NAMES[stem]}">M</button>
          <button class="solo" aria-pressed="false" aria-label="Solo ${NAMES[stem]}">S</button>
        </div>
        <input class="volume" type="range" min="0" max="1.25" step="0.01" value="1" aria-label="Volume of ${NAMES[stem]}">
      </div>
      <div class="pictures">
        <div class="wave"></div>
        <div class="spec"><canvas aria-hidden="true"></canvas><i class="cursor"></i><i class="shade" hidden></i>
          <button class="doubt" hidden title="Blue: where the samples that were averaged differ">Doubt</button></div>
        <p class="empty">…</p>
      </div>`;
    this.root.append(element);
    const regions = Regions.create();
    const wave = WaveSurfer.create({
      container: element.querySelector('.wave'),
      height: 'auto',
      ...colours(element),
      cursorWidth: 2,
      barWidth: 2, barGap: 1, barRadius: 2, barMinHeight: 1,
      hideScrollbar: stem !== 'accompaniment',
      autoScroll: false,
      plugins: [regions],
    });
    const lane = { stem, element, wave, regions, bands: null, doubt: null, quiet: false };
    wave.on('interaction', (time) => this.#tell('seek', time));
    wave.on('scroll', () => this.#follow(lane));
    wave.on('redraw', () => this.#drawSpectrogram(lane));
    regions.enableDragSelection({ color: 'transparent' }, 6);
    regions.on('region-created', (region) => {
      if (lane.quiet) return;
      region.remove(); // all lanes get theirs from select()
      this.#tell('select', { start: region.start, end: region.end });
    });
    regions.on('region-updated', (region) => {
      if (!lane.quiet) this.#tell('select', { start: region.start, end: region.end });
    });
    const strip = (kind) => element.querySelector(`.${kind}`);
    strip('mute').onclick = () => this.#tell('strip', { stem, kind: 'mute' });
    strip('solo').onclick = () => this.#tell('strip', { stem, kind: 'solo' });
    strip('volume').oninput = (event) => this.#tell('strip', { stem, kind: 'gain', value: +event.target.value });
    strip('doubt').onclick = () => this.#tell('doubt');
    this.#dragOnSpectrogram(lane);
    return lane;
  }

  async #load(stem, song, track, hasDoubt) {
    const lane = this.#lanes.get(stem);
    const key = track && `${song}/${track}`;
    lane.element.classList.toggle('absent', !track);
    if (lane.key === key) return;
    lane.key = key;
    if (!track) {
      lane.bands = lane.doubt = null;
      lane.element.querySelector('.doubt').hidden = true;
      lane.wave.empty();
      this.#drawSpectrogram(lane);
      return;
    }
    const kinds = hasDoubt ? ['peaks', 'bands', 'doubt'] : ['peaks', 'bands'];
    const [peaks, bands, doubt] = await Promise.all(kinds.map((kind) => picture(song, track, kind))).catch((error) => {
      if (lane.key === key) lane.key = undefined; // to be asked for again
      throw error;
    });
    if (lane.key !== key) return; // another one was asked for meanwhile
    const up = new Float32Array(peaks.columns);
    const down = new Float32Array(peaks.columns);
    for (let k = 0; k < peaks.columns; k += 1) {
      up[k] = peaks.data[2 * k] / 255;
      down[k] = -peaks.data[2 * k + 1] / 255;
    }
    lane.bands = bands;
    lane.doubt = doubt ?? null;
    lane.element.querySelector('.doubt').hidden = !doubt;
    if (stem === 'mixture') this.#loudest = Math.max(0.05, ...reduced(up), ...reduced(down));
    lane.wave.setOptions({ maxPeak: this.#loudest }); // one scale for all three
    await lane.wave.load('', [up, down], this.seconds).catch(() => {});
    if (this.#pxPerSec) lane.wave.zoom(this.#pxPerSec);
    this.#showRegion(lane);
    this.#drawSpectrogram(lane);
    if (stem === 'mixture') {
      this.#showTimeline(lane);
      for (const other of this.#lanes.values()) other.wave.setOptions({ maxPeak: this.#loudest });
    }
  }

  #showTimeline(lane) {
    lane.timeline?.destroy();
    lane.timeline = lane.wave.registerPlugin(Timeline.create({ height: 18, insertPosition: 'beforebegin' }));
  }

  set(stem, { mute, solo, gain, heard }) {
    const { element } = this.#lanes.get(stem);
    element.querySelector('.mute').setAttribute('aria-pressed', mute);
    element.querySelector('.solo').setAttribute('aria-pressed', solo);
    element.querySelector('.volume').value = gain;
    element.classList.toggle('silent', !heard);
  }

  /** Whether the vocals' spectrogram is coloured where there is doubt. */
  showDoubt(shown) {
    this.#doubting = shown;
    for (const lane of this.#lanes.values()) {
      lane.element.querySelector('.doubt').setAttribute('aria-pressed', shown);
      this.#drawSpectrogram(lane);
    }
  }

  /** Move the cursors; while playing, the picture follows. */
  time(seconds, playing) {
    const first = this.#lanes.get('mixture').wave;
    const scale = this.#scale();
    if (playing && this.#pxPerSec) {
      const x = seconds * scale - first.getScroll();
      const width = first.getWidth();
      if (x < 0 || x > width * 0.92) this.#scrollAll(Math.max(0, seconds * scale - width * 0.1));
    }
    for (const lane of this.#lanes.values()) {
      if (lane.wave.getDuration()) lane.wave.setTime(Math.min(seconds, this.seconds));
    }
    const x = seconds * scale - first.getScroll();
    for (const { element } of this.#lanes.values()) {
      element.querySelector('.cursor').style.transform = `translateX(${x}px)`;
    }
  }

  select(region) {
    this.#region = region;
    for (const lane of this.#lanes.values()) this.#showRegion(lane);
    this.#shade();
  }

  zoom(factor) {
    const { wave } = this.#lanes.get('mixture');
    const fit = wave.getWidth() / Math.max(0.1, this.seconds);
    const before = this.#pxPerSec || fit;
    const next = Math.min(800, before * factor);
    this.#pxPerSec = next <= fit * 1.01 ? 0 : next;
    const centre = (wave.getScroll() + wave.getWidth() / 2) / before;
    for (const lane of this.#lanes.values()) {
      if (lane.wave.getDuration()) lane.wave.zoom(this.#pxPerSec);
    }
    const middle = this.#region ? (this.#region.start + this.#region.end) / 2 : centre;
    this.#scrollAll(Math.max(0, middle * (this.#pxPerSec || fit) - wave.getWidth() / 2));
    this.#drawSpectrograms();
  }

  recolour() {
    for (const lane of this.#lanes.values()) {
      lane.palette = null;
      lane.wave.setOptions(colours(lane.element));
      this.#drawSpectrogram(lane);
    }
  }

  #showRegion(lane) {
    lane.quiet = true;
    lane.regions.clearRegions();
    if (this.#region && lane.wave.getDuration()) {
      lane.regions.addRegion({
        ...this.#region, color: style(lane.element, '--region'), drag: true, resize: true, minLength: SHORTEST,
      });
    }
    lane.quiet = false;
  }

  #scale() {
    const { wave } = this.#lanes.get('mixture');
    return this.#pxPerSec || wave.getWidth() / Math.max(0.1, this.seconds);
  }

  #follow(lane) {
    if (this.#scrolling) return;
    this.#scrollAll(lane.wave.getScroll(), lane);
    requestAnimationFrame(() => this.#drawSpectrograms());
  }

  #scrollAll(pixels, but) {
    this.#scrolling = true;
    for (const lane of this.#lanes.values()) if (lane !== but) lane.wave.setScroll(pixels);
    requestAnimationFrame(() => { this.#scrolling = false; this.#drawSpectrograms(); });
  }

  #drawSpectrograms() {
    for (const lane of this.#lanes.values()) this.#drawSpectrogram(lane);
    this.#shade();
  }

  #drawSpectrogram(lane) {
    const canvas = lane.element.querySelector('canvas');
    const box = canvas.parentElement.getBoundingClientRect();
    if (!box.width || !box.height) return;
    const density = Math.min(2, devicePixelRatio || 1);
    const width = Math.round(box.width * density);
    const height = Math.round(box.height * density);
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    const drawing = canvas.getContext('2d');
    drawing.clearRect(0, 0, width, height);
    const { bands } = lane;
    if (!bands) return;
    const scale = this.#scale() * density;
    const left = lane.wave.getScroll() * density;
    const { rows, columns, data, seconds } = bands;
    const image = new ImageData(width, rows);
    const pixels = new Uint32Array(image.data.buffer);
    const palette = lane.palette ??= makePalette(lane.element);
    const doubt = this.#doubting ? lane.doubt : null;
    const blue = doubt && rgb(style(lane.element, '--doubt'));
    for (let x = 0; x < width; x += 1) {
      const first = Math.floor((left + x) / scale / seconds);
      if (first >= columns) break;
      const last = Math.min(columns, Math.max(first + 1, Math.floor((left + x + 1) / scale / seconds)));
      const step = Math.max(1, Math.floor((last - first) / 6));
      const second = doubt && Math.min(doubt.columns - 1, Math.floor(first * seconds / doubt.seconds)) * rows;
      for (let row = 0; row < rows; row += 1) {
        let level = 0;
        for (let c = first; c < last; c += step) level = Math.max(level, data[c * rows + row]);
        pixels[(rows - 1 - row) * width + x] = doubt
          ? mix(palette[level], blue, doubt.data[second + row] / 255 * Math.min(1, level / 160)) : palette[level];
      }
    }
    const small = new OffscreenCanvas(width, rows);
    small.getContext('2d').putImageData(image, 0, 0);
    drawing.imageSmoothingEnabled = true;
    drawing.imageSmoothingQuality = 'high';
    drawing.drawImage(small, 0, 0, width, height);
  }

  #shade() {
    const { wave } = this.#lanes.get('mixture');
    const scale = this.#scale();
    for (const { element } of this.#lanes.values()) {
      const shade = element.querySelector('.shade');
      shade.hidden = !this.#region;
      if (!this.#region) continue;
      shade.style.left = `${this.#region.start * scale - wave.getScroll()}px`;
      shade.style.width = `${Math.max(1, (this.#region.end - this.#region.start) * scale)}px`;
    }
  }

  #dragOnSpectrogram(lane) {
    const area = lane.element.querySelector('.spec');
    let from = null;
    const at = (event) => {
      const x = event.clientX - area.getBoundingClientRect().left + lane.wave.getScroll();
      return Math.min(Math.max(0, x / this.#scale()), this.seconds);
    };
    area.addEventListener('pointerdown', (event) => {
      if (event.button || !lane.bands || event.target.closest('button')) return;
      from = { time: at(event), x: event.clientX };
      area.setPointerCapture(event.pointerId);
    });
    area.addEventListener('pointermove', (event) => {
      if (!from || Math.abs(event.clientX - from.x) < 6) return;
      const [start, end] = [from.time, at(event)].sort((a, b) => a - b);
      this.#tell('select', { start, end: Math.max(end, start + SHORTEST) });
    });
    area.addEventListener('pointerup', (event) => {
      if (from && Math.abs(event.clientX - from.x) < 6) this.#tell('seek', at(event));
      from = null;
    });
    area.addEventListener('pointercancel', () => { from = null; });
    area.addEventListener('wheel', (event) => {
      if (!this.#pxPerSec || !event.deltaX) return;
      event.preventDefault();
      this.#scrollAll(lane.wave.getScroll() + event.deltaX);
    }, { passive: false });
  }

  #tell(kind, detail) { this.dispatchEvent(new CustomEvent(kind, { detail })); }
}

/** The largest magnitude of every thousand values: few enough to spread. */
function reduced(values) {
  return Array.from({ length: Math.ceil(values.length / 1000) }, (_, k) => (
    values.subarray(1000 * k, 1000 * (k + 1)).reduce((most, value) => Math.max(most, Math.abs(value)), 0)));
}

function style(element, name) { return getComputedStyle(element).getPropertyValue(name).trim(); }

function colours(element) {
  return {
    waveColor: style(element, '--wave'), progressColor: style(element, '--hue'), cursorColor: style(element, '--cursor'),
  };
}

/** 256 colours from the background through the lane's own to the brightest. */
function makePalette(element) {
  const stops = style(element, '--ramp').split(',').map(rgb);
  return Uint32Array.from({ length: 256 }, (_, level) => {
    const x = Math.min(1, Math.max(0, (level - 40) / 190)) ** 1.25 * (stops.length - 1);
    const low = Math.min(stops.length - 2, Math.floor(x));
    return mix(pixel(stops[low]), stops[low + 1], x - low);
  });
}

function rgb(colour) {
  const value = parseInt(colour.trim().slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

/** A colour as the four bytes of a picture. */
function pixel([red, green, blue]) { return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0; }

/** A pixel, and so much of another colour. */
function mix(from, to, share) {
  return pixel(to.map((value, c) => {
    const there = (from >>> (8 * c)) & 255;
    return Math.round(there + share * (value - there));
  }));
}
