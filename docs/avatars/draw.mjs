// Draws labelled happy and sad avatar faces: node draw.mjs OUT --count N --seed S --size 96
// README.md says what the styles are, who drew them and under which licence.

import { lstatSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

// The numbered variants of a part: v('01 12') is ['variant01', 'variant12'].
const v = (numbers, prefix = 'variant') => numbers.split(' ').map((number) => prefix + number);

// What makes a face happy or sad, for the styles that come both with a head and without one.
// Only variants that leave no doubt are named; eyes and brows that would contradict the mouth
// are left out, and so are those of another mood (angry, surprised, tongue out).
const ADVENTURER = {
  happy: { mouth: v('01 05 22 23 25 26 27 28 30'), eyebrows: v('04 06 08 10 11 12 14 15'),
           eyes: v('01 02 03 06 07 19 20 21 22 23 24 25 26') },
  sad: { mouth: v('03 04 14'), eyebrows: v('07'), eyes: v('02 03 11 12 15 20 24 25 26') },
};
const BIG_EARS = {
  happy: { mouth: v('0203 0204 0205 0303 0305 0701 0702'),
           eyes: v('02 03 04 05 10 11 13 14 15 19 20 21 22 24 26 27 28 29 30 31 32') },
  sad: { mouth: v('0405 0503 0505 0704 0705'),
         eyes: v('02 03 04 05 06 07 14 15 19 20 21 22 24 26 27 28 29 30 31') },
};
const CROODLES = {
  happy: { mouth: v('07 10 11 16 17'), eyes: v('02 03 04 05 07 11 14 16') },
  sad: { mouth: v('18'), eyes: v('01 03 08 11 13 14 15 16') },
  always: { mustacheProbability: 0, beardProbability: 0 },
};
const LORELEI = {
  happy: { mouth: v('01 05 06 07 16', 'happy'), eyebrows: v('02 05 07 09'),
           eyes: v('02 04 06 09 10 13 14 16 19 21 23 24') },
  sad: { mouth: v('01 04 05', 'sad'), eyebrows: v('01'), eyes: v('04 06 12 13 16 19 21 24') },
  always: { beardProbability: 0, skinColor: ['ffffff', 'ffdbb4', 'edb98a', 'd08b5b'],
            hairColor: ['000000', '724133', 'b58143', 'c93305'] },
};
const NOTIONISTS = {
  happy: { lips: v('03 08 14 23 25 30'), brows: v('01 02 09 10 12'), eyes: v('01 03 05') },
  sad: { lips: v('18 19 24'), brows: v('06 13') },
  // Dark glasses hide the brows, a beard or a hand the mouth.
  always: { glasses: v('03 08 11'), beardProbability: 0, gestureProbability: 0 },
};
const PIXEL_ART = {
  happy: { mouth: v('06 09', 'happy') },
  sad: { mouth: v('01', 'sad') },
  // The paler colours are hard to tell from the skin.
  always: { mouthColor: ['e35d6a', 'de0f0d', '8c2f28'], beardProbability: 0 },
};

// face: where the middle of the face lies and how wide it is, as parts of the picture.
const STYLES = {
  'adventurer': { ...ADVENTURER, face: [0.5, 0.6, 0.55] },
  'adventurer-neutral': { ...ADVENTURER, face: [0.5, 0.5, 0.85] },
  'big-ears': { ...BIG_EARS, face: [0.5, 0.6, 0.6] },
  'big-ears-neutral': { ...BIG_EARS, face: [0.5, 0.5, 0.85] },
  'big-smile': {
    face: [0.6, 0.6, 0.7],
    happy: { mouth: ['openedSmile', 'gapSmile', 'teethSmile', 'braces', 'kawaii'],
             eyes: ['cheery', 'normal', 'starstruck', 'winking'] },
    sad: { mouth: ['openSad'], eyes: ['sad'] },
    always: { accessories: ['catEars', 'glasses', 'sailormoonCrown'] },
  },
  'croodles': { ...CROODLES, face: [0.5, 0.6, 0.7], heldOut: true },
  'croodles-neutral': { ...CROODLES, face: [0.5, 0.53, 0.92], heldOut: true },
  'dylan': { face: [0.5, 0.55, 0.6], heldOut: true,
             happy: { mood: ['happy', 'superHappy'] }, sad: { mood: ['sad'] } },
  'fun-emoji': {
    face: [0.5, 0.5, 0.85],
    happy: { mouth: ['lilSmile', 'wideSmile', 'smileTeeth', 'smileLol'],
             eyes: ['cute', 'plain', 'closed', 'love', 'stars', 'wink', 'wink2', 'glasses', 'shades'] },
    sad: { mouth: ['sad', 'sad', 'pissed'],
           eyes: ['sad', 'tearDrop', 'crying', 'cute', 'plain', 'glasses', 'sleepClose'] },
  },
  'lorelei': { ...LORELEI, face: [0.5, 0.55, 0.55] },
  'lorelei-neutral': { ...LORELEI, face: [0.5, 0.5, 0.8] },
  'micah': {
    face: [0.55, 0.5, 0.55], heldOut: true,
    happy: { mouth: ['laughing', 'smile'], eyebrows: ['up', 'eyelashesUp'] },
    sad: { mouth: ['frown', 'sad'], eyes: ['eyes', 'round', 'eyesShadow'] },
    always: { facialHair: ['scruff'] },
  },
  'notionists': { ...NOTIONISTS, face: [0.5, 0.42, 0.42] },
  'notionists-neutral': { ...NOTIONISTS, face: [0.5, 0.5, 0.8] },
  'open-peeps': {
    face: [0.58, 0.5, 0.5],
    happy: { face: ['calm', 'cute', 'lovingGrin1', 'lovingGrin2', 'smile', 'smileBig', 'smileLOL'] },
    sad: { face: ['solemn', 'solemn', 'tired'] },
    always: { maskProbability: 0, facialHairProbability: 0,
              accessories: ['glasses', 'glasses2', 'glasses3', 'glasses4', 'glasses5'] },
  },
  'personas': {
    face: [0.5, 0.45, 0.5], heldOut: true,
    happy: { mouth: ['smile', 'bigSmile'] },
    sad: { mouth: ['frown'], eyes: ['open', 'sleep', 'glasses'] },
    always: { facialHair: ['beardMustache', 'goatee', 'shadow'] },
  },
  'pixel-art': { ...PIXEL_ART, face: [0.5, 0.5, 0.55] },
  'pixel-art-neutral': { ...PIXEL_ART, face: [0.5, 0.5, 0.85] },
};

class Refusal extends Error {}

// A small seeded generator (FNV-1a into mulberry32), so that an image depends on its name alone.
function randomFrom(text) {
  let state = 2166136261;
  for (const char of text) state = Math.imul(state ^ char.codePointAt(0), 16777619);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

// A light colour, for many styles draw black lines straight onto the background.
const lightColour = (random) =>
  [0, 0, 0].map(() => Math.floor(120 + 136 * random()).toString(16).padStart(2, '0')).join('');

// The same name gives the same hair, colours and frame in both moods: only the mood tells the two
// apart, so that nothing else can come to stand for it.
function draw({ createAvatar, Resvg, style, entry, mood, name, size }) {
  const random = randomFrom(name);
  const pick = (list) => list[Math.floor(random() * list.length)];
  const own = style.schema.properties.backgroundColor?.default ?? [];
  const flip = random() < 0.5;
  const svg = createAvatar(style, {
    seed: String(random()), // the generator of the packages is poor for seeds alike
    flip,
    rotate: Math.floor(360 + 25 * random() - 12) % 360,
    radius: pick([0, 0, 0, 50]),
    backgroundColor: [pick([...own, lightColour(random)])],
    ...entry.always,
    ...entry[mood],
  }).toString();
  // From the whole picture to the face alone, as faces in the wild are framed either way; but a
  // face is never less than half as wide as the image, or its mouth would be a few pixels.
  const near = random();
  const whole = [0.5, 0.5, Math.min(1, 2 * entry.face[2])];
  const [x, y, width] = whole.map((far, i) => far + near * (entry.face[i] - far));
  return new Resvg(frame(svg, flip ? 1 - x : x, y, width), {
    fitTo: { mode: 'width', value: size },
    background: `#${lightColour(random)}`, // behind the corners that a radius cuts off
    font: { loadSystemFonts: false },
  }).render().asPng();
}

// Cuts an SVG down to a square around (x, y), all in parts of the picture.
function frame(svg, x, y, width) {
  return svg.replace(/viewBox="0 0 (\S+) (\S+)"/, (_, w, h) =>
    `viewBox="${(x - width / 2) * w} ${(y - width / 2) * h} ${width * w} ${width * h}"`);
}

function readArguments() {
  const text = (value) => ({ type: 'string', default: value });
  const { values: { count, seed, size }, positionals: [out, ...others] } = parseArgs({
    allowPositionals: true,
    options: { count: text('60'), seed: text('1'), size: text('96') },
  });
  if (!out || others.length) throw new Refusal('Name one folder to make, as in: node draw.mjs OUT.');
  if (!/^[1-9]\d{0,4}$/.test(count)) throw new Refusal('--count takes a number from 1 to 99999.');
  if (!/^\d+$/.test(size) || size < 16 || size > 1024) {
    throw new Refusal('--size takes a number from 16 to 1024.');
  }
  if (lstatSync(out, { throwIfNoEntry: false })) {
    throw new Refusal(`${out} exists already and is left as it is; name a new folder.`);
  }
  return { out, count: Number(count), seed, size: Number(size) };
}

async function main() {
  const { out, count, seed, size } = readArguments();
  const load = (name) => import(name).catch(() => {
    throw new Refusal(`The package ${name} is not installed; run npm ci first.`);
  });
  const tools = { ...await load('@dicebear/core'), Resvg: (await load('@resvg/resvg-js')).Resvg };
  for (const [styleName, entry] of Object.entries(STYLES)) {
    const style = await load(`@dicebear/${styleName}`);
    for (const mood of ['happy', 'sad']) {
      const folder = join(out, entry.heldOut ? 'held-out' : 'training', mood);
      mkdirSync(folder, { recursive: true });
      for (let number = 1; number <= count; number++) {
        const png = draw({ ...tools, style, entry, mood, name: `${seed}/${styleName}/${number}`, size });
        writeFileSync(join(folder, `${styleName}-${number}.png`), png);
      }
    }
  }
}

main().catch((error) => {
  // A code means a wrong option or a folder that cannot be written; anything else is a mistake here.
  if (!(error instanceof Refusal) && !error.code) throw error;
  console.error(error.message);
  process.exitCode = 2;
});
