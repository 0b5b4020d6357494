// Plays any number of tracks of a song, all at the same sample, without holding the song.
//
// Samples come in blocks of a second. For every block, one AudioBufferSourceNode a track is started
// at the same moment, and the next block at the sample after; a loop ends and begins at its sample.
// The context runs at the song's own rate, so nothing is resampled. Which track is heard is a matter
// of gains alone, which are ramped for a few milliseconds: switching never moves the position.

import { binary } from './api.js';

const AHEAD = 3; // seconds that are scheduled before they are heard
const RAMP = 0.008; // seconds
const CACHE = 96 * 2 ** 20; // bytes of samples that are kept

export class Player extends EventTarget {
  #context = null;
  #master = null;
  #meter = null;
  #gains = new Map(); // track → GainNode
  #tracks = [];
  #blocks = new Map(); // "track/block" → {data | promise}, least recently used first
  #bytes = 0;
  #run = null; // what is scheduled now
  #frame = 0; // where it stands while nothing plays
  #wanted = new Map(); // track → gain
  #timer = null;

  song = null;
  playing = false;
  waiting = false;
  loop = null; // {start, end} in frames

  load(song) {
    this.pause();
    this.song = song;
    this.loop = null;
    this.#frame = 0;
    this.#tracks = [];
    this.#blocks.clear();
    this.#bytes = 0;
    if (this.#context && this.#context.sampleRate !== song?.sample_rate) {
      this.#context.close();
      this.#context = null;
      this.#gains.clear();
    }
  }

  get rate() { return this.song?.sample_rate ?? 44100; }
  get block() { return this.rate; }
  get seconds() { return this.position() / this.rate; }
  get context() { return this.#context; }
  get output() { return this.#master; }
  get tracks() { return this.#tracks; }

  /** Choose what is played; `gains` is a Map of track → gain. */
  setTracks(gains) {
    const tracks = [...gains.keys()];
    const same = tracks.length === this.#tracks.length && tracks.every((t, i) => t === this.#tracks[i]);
    this.#tracks = tracks;
    this.setGains(gains);
    if (!same && this.playing) this.#restart(this.position(), true);
  }

  setGains(gains) {
    this.#wanted = gains;
    for (const [track, gain] of gains) {
      const node = this.#gains.get(track);
      if (node) ramp(node.gain, gain, this.#context.currentTime);
    }
  }

  gain(track) { return this.#gains.get(track)?.gain.value ?? this.#wanted.get(track) ?? 0; }

  async play() {
    if (!this.song || this.playing || !this.#tracks.length) return;
    this.#open();
    this.playing = true;
    this.#change();
    await this.#context.resume();
    if (this.#frame >= this.song.frames - 1) this.#frame = 0;
    if (this.playing && !this.#run) this.#restart(this.#frame);
  }

  pause() {
    if (!this.playing) return;
    this.#frame = this.position();
    this.playing = false;
    this.#stop(this.#context.currentTime);
    this.#change();
  }

  seek(frame) {
    frame = Math.round(Math.min(Math.max(0, frame), (this.song?.frames ?? 1) - 1));
    if (this.playing) this.#restart(frame);
    else this.#frame = frame;
    this.dispatchEvent(new Event('seek'));
  }

  setLoop(loop) {
    this.loop = loop;
    if (this.playing) this.#restart(this.position(), true);
  }

  /** The frame that is heard now. */
  position() {
    const run = this.#run;
    if (!this.playing || !run) return this.#frame;
    const now = this.#context.currentTime * this.rate;
    while (run.segments.length > 1 && run.segments[1].when <= now) run.segments.shift();
    const segment = run.segments[0];
    if (!segment) return run.next;
    return Math.round(segment.from + Math.min(Math.max(0, now - segment.when), segment.frames));
  }

  /** How loud it is now, 0 to 1. */
  level() {
    if (!this.#meter) return 0;
    const samples = new Float32Array(this.#meter.fftSize);
    this.#meter.getFloatTimeDomainData(samples);
    return Math.max(...samples.map(Math.abs));
  }

  #open() {
    if (this.#context) return;
    try {
      this.#context = new AudioContext({ sampleRate: this.rate, latencyHint: 'interactive' });
    } catch { // a rate that this machine cannot open: it then resamples
      this.#context = new AudioContext();
    }
    this.#master = this.#context.createGain();
    this.#meter = this.#context.createAnalyser();
    this.#master.connect(this.#meter);
    this.#master.connect(this.#context.destination);
  }

  #gain(track) {
    if (!this.#gains.has(track)) {
      const node = this.#context.createGain();
      node.gain.value = this.#wanted.get(track) ?? 0;
      node.connect(this.#master);
      this.#gains.set(track, node);
    }
    return this.#gains.get(track);
  }

  /** Go on from `frame`; what was scheduled fades out as the new fades in.
   *  With `on`, what is heard goes on meanwhile, and the new begins where it will have come to. */
  #restart(frame, on = false) {
    const now = this.#context.currentTime * this.rate;
    const when = Math.ceil(now + 0.03 * this.rate);
    if (on && this.#run) frame += Math.round(when - now);
    const loop = this.loop;
    if (loop && (frame >= loop.end || frame < loop.start)) frame = loop.start;
    this.#stop(when / this.rate);
    this.#run = { next: frame, when, segments: [], sources: new Set(), first: true };
    this.#pump();
    clearInterval(this.#timer);
    this.#timer = setInterval(() => this.#pump(), 100);
  }

  #stop(when) {
    const run = this.#run;
    this.#run = null;
    clearInterval(this.#timer);
    if (!run) return;
    for (const { source, fade } of run.sources) {
      ramp(fade.gain, 0, when);
      try { source.stop(when + RAMP); } catch { /* it has ended */ }
    }
  }

  #pump() {
    const run = this.#run;
    if (!run || !this.playing) return;
    const { rate } = this;
    for (;;) {
      const now = Math.ceil((this.#context.currentTime + 0.02) * rate);
      if (run.when > now + AHEAD * rate) return;
      const end = this.loop ? this.loop.end : this.song.frames;
      if (run.next >= end) {
        if (!this.loop) { this.#finish(run, now); return; }
        run.next = this.loop.start;
      }
      const index = Math.floor(run.next / this.block);
      const blocks = this.#tracks.map((track) => this.#block(track, index));
      if (blocks.some((block) => !block.data)) {
        this.#setWaiting(run.when <= now);
        return; // it goes on when they have come
      }
      this.#setWaiting(false);
      run.when = Math.max(run.when, now); // late: go on as soon as can be
      const last = Math.min((index + 1) * this.block, end);
      this.#schedule(run, blocks, index, last);
      this.#tracks.forEach((track) => this.#block(track, Math.floor(last / this.block)));
    }
  }

  #schedule(run, blocks, index, last) {
    const frames = last - run.next;
    const offset = run.next - index * this.block;
    const { channels } = this.song;
    this.#tracks.forEach((track, i) => {
      const buffer = this.#context.createBuffer(channels, frames, this.rate);
      const { data } = blocks[i];
      for (let channel = 0; channel < channels; channel += 1) {
        const out = buffer.getChannelData(channel);
        for (let k = 0; k < frames; k += 1) out[k] = data[(offset + k) * channels + channel] ?? 0;
      }
      const source = this.#context.createBufferSource();
      const fade = this.#context.createGain();
      source.buffer = buffer;
      source.connect(fade).connect(this.#gain(track));
      const when = run.when / this.rate;
      if (run.first) {
        fade.gain.setValueAtTime(0, when);
        fade.gain.linearRampToValueAtTime(1, when + RAMP);
      }
      source.start(when);
      const entry = { source, fade };
      run.sources.add(entry);
      source.onended = () => { run.sources.delete(entry); fade.disconnect(); };
    });
    run.segments.push({ when: run.when, from: run.next, frames });
    run.first = false;
    run.next = last;
    run.when += frames;
  }

  #finish(run, now) {
    if (run.when <= now) {
      this.#frame = this.song.frames;
      this.playing = false;
      this.#stop(this.#context.currentTime);
      this.#change();
    }
  }

  #block(track, index) {
    const key = `${track}/${index}`;
    let block = this.#blocks.get(key);
    if (block) {
      this.#blocks.delete(key); // and to the end: used last
      this.#blocks.set(key, block);
      return block;
    }
    block = { data: null };
    this.#blocks.set(key, block);
    const { song } = this;
    const path = `/api/songs/${song.id}/tracks/${track}/samples?start=${index * this.block}&frames=${this.block}`;
    binary(path).then((bytes) => {
      if (this.song !== song) return;
      block.data = new Float32Array(bytes);
      this.#bytes += bytes.byteLength;
      this.#evict();
      this.#pump();
    }).catch((error) => {
      this.#blocks.delete(key);
      if (this.song === song) this.dispatchEvent(new CustomEvent('problem', { detail: error.message }));
    });
    return block;
  }

  #evict() {
    for (const [key, block] of this.#blocks) {
      if (this.#bytes <= CACHE) return;
      if (block.data) {
        this.#blocks.delete(key);
        this.#bytes -= block.data.byteLength;
      }
    }
  }

  #setWaiting(waiting) {
    if (this.waiting !== waiting) { this.waiting = waiting; this.#change(); }
  }

  #change() { this.dispatchEvent(new Event('change')); }
}

function ramp(parameter, value, now) {
  parameter.cancelScheduledValues(now);
  parameter.setValueAtTime(parameter.value, now);
  parameter.linearRampToValueAtTime(value, now + RAMP);
}
