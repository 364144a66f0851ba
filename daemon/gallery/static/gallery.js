// What makes the pages quick to use; they work without it, too.
"use strict";

const COUNT_EVERY_MS = 2000;
const LABEL_OF_KEY = { h: "happy", s: "sad" };
const MOVES = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"];

const grid = document.getElementById("cards");
const said = document.getElementById("said");
const cards = () => [...grid.children];
const say = (text) => { said.textContent = text; };

/** One card can be reached by Tab, and the arrows go on from there. */
function choose(card) {
  if (!card) return;
  for (const other of cards()) other.tabIndex = other === card ? 0 : -1;
  card.focus();
  card.scrollIntoView({ block: "nearest" });
}

function neighbour(card, key) {
  const all = cards();
  const columns = all.filter((one) => one.offsetTop === all[0].offsetTop).length;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
  if (step === undefined) return key === "Home" ? all[0] : all.at(-1);
  return all[all.indexOf(card) + step];
}

/** Tell the server what an image is; gives its new card, as HTML, or null if it was refused. */
async function tell(form, label) {
  const body = new URLSearchParams(new FormData(form));
  body.set("label", label);
  try {
    const answer = await fetch(`${form.getAttribute("action")}?card`, { method: "POST", body });
    const text = await answer.text();
    if (answer.ok) return text;
    say(text);
  } catch {
    say("moodsort gallery does not answer. Is it still running?");
  }
  return null;
}

/** The new card takes the place of the old one. */
async function correct(card, label) {
  const form = card.querySelector("form");
  if (!form) return say("There is nothing to correct.");
  card.setAttribute("aria-busy", "true");
  const text = await tell(form, label);
  card.removeAttribute("aria-busy");
  if (text === null) return;
  const hadFocus = card.contains(document.activeElement);
  const made = document.createRange().createContextualFragment(text).querySelector("li");
  made.tabIndex = card.tabIndex;
  card.replaceWith(made);
  if (hadFocus) choose(made);
  say(made.getAttribute("aria-label"));
}

async function correctImage(form, label) {
  if ((await tell(form, label)) !== null) location.reload();
}

function follow(selector) {
  const link = document.querySelector(selector);
  if (link) link.click();
}

function onKeyInGrid(event) {
  const card = document.activeElement.closest(".card");
  const label = LABEL_OF_KEY[event.key];
  if (event.key === "n") follow("a[rel=next]");
  else if (event.key === "p") follow("a[rel=prev]");
  else if (MOVES.includes(event.key)) {
    event.preventDefault();
    choose(card ? neighbour(card, event.key) : grid.firstElementChild);
  } else if (card && label) {
    const next = neighbour(card, "ArrowRight");
    if (next) choose(next);
    correct(card, label);
  } else if (event.key === "Enter" && event.target === card) {
    history.replaceState(null, "", `#${card.id}`); // So that who comes back finds it again.
    location.assign(card.querySelector(".about a").href);
  }
}

function onKeyOfImage(event) {
  const label = LABEL_OF_KEY[event.key];
  const form = document.querySelector(".says");
  if (label && form) correctImage(form, label);
  else if (event.key === "Escape") history.length > 1 ? history.back() : follow("#back");
}

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input, select, textarea");
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  if (grid) onKeyInGrid(event);
  else if (document.getElementById("image")) onKeyOfImage(event);
});

if (grid) {
  const last = document.getElementById(location.hash.slice(1));
  if (last) choose(last);
  else grid.firstElementChild.tabIndex = 0;
}

document.addEventListener("submit", (event) => {
  if (!event.target.matches(".says")) return;
  event.preventDefault();
  const label = event.submitter.value;
  if (grid) correct(event.target.closest(".card"), label);
  else correctImage(event.target, label);
});

/** The numbers above, and how many have come since the page was made. */
async function count() {
  if (document.hidden) return;
  try {
    const answer = await fetch("/counts");
    if (!answer.ok) return;
    const counts = await answer.json();
    for (const one of document.querySelectorAll("[data-count]"))
      one.textContent = (counts[one.dataset.count] ?? 0).toLocaleString("en");
    const fresh = counts.decided - document.getElementById("counts").dataset.decided;
    const link = document.getElementById("new");
    link.hidden = fresh <= 0;
    link.textContent = `${fresh.toLocaleString("en")} new`;
  } catch {
    // It is told when something is asked of it.
  }
}

if (document.getElementById("counts")) setInterval(count, COUNT_EVERY_MS);
