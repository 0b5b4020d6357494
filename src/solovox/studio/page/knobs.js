// The generative knobs, in words. What is left as tuned is not sent.

const COUNT = (value) => ({
  0: 'the first estimate, nothing generated', 1: '1 step', 2: '2 steps',
}[value] ?? `${value} steps`);

const KNOBS = [
  { name: 'seed', label: 'Seed', kind: 'seed',
    about: 'The roll of the dice. Another seed, another take; the same seed, the same bits.' },
  { name: 'steps', label: 'Steps', min: 0, max: 30, step: 1, word: COUNT,
    about: 'How often the generator looks again. Each step costs as much time as the first.' },
  { name: 'start', label: 'Freedom', needs: ['steps'], min: 0.05, max: 1, step: 0.05,
    word: (v) => (v >= 1 ? 'from noise alone' : v <= 0.15 ? 'close to the estimate' : v.toFixed(2)),
    about: 'How far from the first estimate the voice may go: 1 begins with noise alone.' },
  { name: 'eta', label: 'Invention (η)', needs: ['steps'], min: 0, max: 1, step: 0.05,
    word: (v) => (v === 0 ? 'none: one fixed path' : v.toFixed(2)),
    about: 'Fresh noise on the way, cleared again: breath and detail are tried anew.' },
  { name: 'band', label: 'Where it may', kind: 'choice', needs: ['steps', 'eta'], options: ['fixed', 'mixture', 'spread'],
    words: { fixed: 'above a fixed frequency', mixture: 'above most of what is heard just then',
      spread: 'where the first estimate is unsure' } },
  { name: 'cutoff', label: 'Invention above', min: 0, max: 12000, step: 250,
    word: (v) => (v === 0 ? 'everywhere' : v >= 1000 ? `${v / 1000} kHz` : `${v} Hz`),
    about: 'That noise lies above this frequency; lower tones keep their path.', needs: ['steps', 'eta'] },
  { name: 'takes', label: 'Average of', needs: ['steps'], min: 1, max: 8, step: 1,
    word: (v) => (v === 1 ? 'one sample' : `${v} samples`),
    about: 'Several samples of each moment, averaged: fewer slips, and as much more time. Where they differ is shown.' },
  { name: 'stems', label: 'Stems', kind: 'choice', from: 'rules',
    words: { exact: 'exact: vocals as generated, the rest is the song less them',
      wiener: 'filtered: the song, filtered by what was generated',
      generated: 'free: vocals as generated, accompaniment filtered' } },
  { name: 'sampler', label: 'Sampler', kind: 'choice', needs: ['steps'], from: 'samplers',
    words: { ddim: 'DDIM', 'dpmpp-2m': 'DPM-Solver++ (fewer steps)', heun: 'Heun (two passes a step, η 0)' } },
];

export class KnobPanel {
  constructor(root, studio) {
    this.root = root;
    this.studio = studio;
    root.replaceChildren();
    this.model = select('knob-model', studio.models.map((model) => [model.name, model.name]));
    this.model.onchange = () => this.#showAll();
    if (studio.models.length > 1) root.append(row('Model', this.model, 'knob-model', 'Another model hears the song another way.'));
    root.append(this.#qualities());
    this.inputs = {};
    for (const knob of KNOBS) root.append(this.#make(knob));
  }

  get #model() { return this.studio.models.find((each) => each.name === this.model.value); }

  get tuned() { return tunedOf(this.#model, this.values.quality); }

  /** Show the knobs of an earlier take. */
  fill(knobs) {
    const { models } = this.studio;
    this.model.value = (models.find((each) => each.name === knobs.model) ?? models[0]).name;
    this.values = { ...knobs };
    this.#showAll();
  }

  asTuned() {
    this.values = { seed: this.values.seed, quality: this.values.quality };
    this.#showAll();
  }

  roll() {
    this.values.seed = Math.floor(Math.random() * 100000);
    this.#showAll();
  }

  read() {
    const knobs = { model: this.model.value, seed: this.values.seed ?? 0 };
    if (this.values.quality in this.#model.qualities) knobs.quality = this.values.quality;
    for (const { name } of KNOBS) {
      const value = this.inputs[name].input.disabled ? null : this.values[name];
      if (name !== 'seed' && value !== undefined && value !== null && value !== this.tuned[name]) knobs[name] = value;
    }
    return knobs;
  }

  #qualities() {
    const group = document.createElement('div');
    group.className = 'group';
    group.setAttribute('role', 'group');
    group.setAttribute('aria-label', 'Quality');
    const names = new Set(this.studio.models.flatMap((model) => Object.keys(model.qualities)));
    this.quality = [...names].map((name) => {
      const button = Object.assign(document.createElement('button'), { type: 'button', textContent: name[0].toUpperCase() + name.slice(1) });
      button.dataset.quality = name;
      button.onclick = () => {
        this.values = { seed: this.values.seed, quality: name, stems: this.values.stems };
        this.#showAll();
      };
      return button;
    });
    group.append(...this.quality);
    const made = document.createElement('div');
    made.className = 'knob';
    made.append(Object.assign(document.createElement('b'), { textContent: 'Quality' }), group,
      Object.assign(document.createElement('p'), { className: 'hint', textContent: 'Sets the knobs below. Fast takes the first estimate, best averages several samples.' }));
    return made;
  }

  #make(knob) {
    const id = `knob-${knob.name}`;
    if (knob.kind === 'choice') {
      const input = select(id, (knob.options ?? this.studio[knob.from]).map((value) => [value, knob.words[value] ?? value]));
      input.onchange = () => {
        if (knob.name === 'band') this.values.cutoff = input.value === 'fixed' ? 5000 : input.value;
        else this.values[knob.name] = input.value;
        this.#showAll();
      };
      this.inputs[knob.name] = { input };
      return row(knob.label, input, id, knob.about);
    }
    if (knob.kind === 'seed') {
      const input = document.createElement('input');
      Object.assign(input, { id, type: 'number', min: 0, max: 4294967295, step: 1, required: true, inputMode: 'numeric' });
      input.oninput = () => { if (input.validity.valid) this.values.seed = +input.value; };
      const dice = document.createElement('button');
      Object.assign(dice, { type: 'button', textContent: 'Roll', className: 'dice' });
      dice.onclick = () => this.roll();
      this.inputs.seed = { input };
      const made = row(knob.label, input, id, knob.about);
      made.querySelector('.control').append(dice);
      return made;
    }
    const input = document.createElement('input');
    Object.assign(input, { id, type: 'range', min: knob.min, max: knob.max, step: knob.step });
    const output = document.createElement('output');
    output.htmlFor = id;
    input.oninput = () => { this.values[knob.name] = +input.value; this.#showAll(); };
    this.inputs[knob.name] = { input, output, knob };
    const made = row(knob.label, input, id, knob.about);
    made.querySelector('label').append(output);
    return made;
  }

  #showAll() {
    for (const button of this.quality) {
      button.hidden = !(button.dataset.quality in this.#model.qualities);
      button.setAttribute('aria-pressed', button.dataset.quality === (this.values.quality ?? 'balanced'));
    }
    for (const { name, needs } of KNOBS) {
      const { input, output, knob } = this.inputs[name];
      let value = this.values[name] ?? (name === 'seed' ? 0 : this.tuned[name]);
      const cutoff = this.values.cutoff ?? this.tuned.cutoff;
      const adaptive = typeof cutoff === 'string';
      if (name === 'band') value = adaptive ? cutoff : 'fixed';
      input.disabled = needs?.some((other) => !(this.values[other] ?? this.tuned[other])) ?? false;
      if (name === 'cutoff') {
        input.closest('.knob').hidden = adaptive;
        if (adaptive) continue;
      }
      input.value = value;
      if (output) {
        const tuned = value === this.tuned[name] ? ' · as tuned' : '';
        output.textContent = knob.word(value) + tuned;
        input.setAttribute('aria-valuetext', output.textContent);
      }
    }
  }
}

/** What a model does where nothing is chosen but a quality. */
function tunedOf(model, quality) {
  return { stems: model.stems, ...(model.qualities[quality] ?? model.qualities.balanced) };
}

/** A take's settings in a few words. */
export function inWords(take, studio) {
  const made = take.made ? (take.made.redone.at(-1)?.settings ?? take.made.settings) : null;
  const model = studio.models.find((each) => each.name === (take.knobs.model ?? studio.models[0].name));
  const tuned = model ? tunedOf(model, take.knobs.quality) : {};
  const value = (name) => take.knobs[name] ?? made?.[name] ?? tuned[name];
  const parts = [COUNT(value('steps')), `seed ${take.knobs.seed}`];
  if (take.knobs.quality) parts.unshift(take.knobs.quality);
  if (value('takes') > 1) parts.push(`average of ${value('takes')}`);
  if (value('eta') !== tuned.eta) parts.push(`η ${value('eta')}`);
  if (value('start') !== tuned.start) parts.push(`freedom ${value('start')}`);
  if (value('stems') !== tuned.stems) parts.push(value('stems'));
  if (value('sampler') !== tuned.sampler) parts.push(value('sampler'));
  if (studio.models.length > 1) parts.push(take.knobs.model ?? studio.models[0].name);
  return parts.join(' · ');
}

function row(text, control, id, about) {
  const element = document.createElement('div');
  element.className = 'knob';
  const label = document.createElement('label');
  label.htmlFor = id;
  label.append(Object.assign(document.createElement('span'), { textContent: text }));
  const holder = document.createElement('div');
  holder.className = 'control';
  holder.append(control);
  element.append(label, holder);
  if (about) {
    element.append(Object.assign(document.createElement('p'), { className: 'hint', id: `${id}-about`, textContent: about }));
    control.setAttribute('aria-describedby', `${id}-about`);
  }
  return element;
}

function select(id, options) {
  const element = document.createElement('select');
  element.id = id;
  element.append(...options.map(([value, text]) => new Option(text, value)));
  return element;
}
