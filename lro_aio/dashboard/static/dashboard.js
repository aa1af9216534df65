// Follows what happens: the server says that something has changed, and the marked parts of the page are fetched anew.
"use strict";

const body = document.body;
const live = document.getElementById("live");
const notice = document.getElementById("notice");
const PATIENCE = 3000; // milliseconds after which what did not work is tried again
let source = null;
let tag = body.dataset.tag;
let fetching = false;
let newer = false; // news that came while the page was fetched: what is fetched may be older
let again = 0;

function say(text) {
  notice.textContent = text;
  notice.hidden = !text;
  live.hidden = Boolean(text);
}

// A part keeps what a person has ticked, opened and focused in it.
function swap(old, fresh) {
  const ticked = new Set([...old.querySelectorAll("input:checked")].map((box) => box.value));
  const opened = [...old.querySelectorAll("details")].map((one) => one.open);
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  fresh.querySelectorAll("input[type=checkbox]").forEach((box) => { box.checked = ticked.has(box.value); });
  fresh.querySelectorAll("details").forEach((one, index) => { one.open = Boolean(opened[index]); });
  const match = focused && counterpart(old, fresh, focused);
  old.replaceWith(fresh);
  if (match) match.focus({ preventScroll: true });
}

// The same thing in the fresh part; of several that look alike, the one at the same place.
function counterpart(old, fresh, focused) {
  const alike = (part) => [...part.querySelectorAll(focused.tagName)].filter((one) =>
    ["href", "value", "name"].every((key) => one.getAttribute(key) === focused.getAttribute(key)));
  const found = alike(fresh);
  return found[alike(old).indexOf(focused)] || found[0];
}

async function refresh(next) {
  if (next === tag) return;
  newer = fetching;
  if (fetching) return;
  fetching = true;
  try {
    do {
      newer = false;
      await fetchAnew();
    } while (newer);
  } catch {
    say("The dashboard does not answer. This page asks again.");
    retry();
  } finally {
    fetching = false;
  }
}

async function fetchAnew() {
  const answer = await fetch(location.href, { credentials: "same-origin" });
  if (!answer.ok) {
    if (answer.status === 404) return say("It is gone.");
    say("This cannot be shown now. This page asks again.");
    return retry();
  }
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const fresh of page.querySelectorAll("[data-live]")) {
    const old = document.getElementById(fresh.id);
    if (old && old.innerHTML !== fresh.innerHTML) swap(old, document.adoptNode(fresh));
  }
  tag = page.body.dataset.tag;
  say("");
}

function listen() {
  source = new EventSource(body.dataset.events);
  source.addEventListener("look", (event) => { say(""); refresh(event.data); });
  source.addEventListener("away", (event) => { say(`${event.data}. This page asks again.`); });
  source.addEventListener("gone", (event) => { say(event.data); source.close(); });
  source.onerror = () => {
    live.hidden = true;
    if (source.readyState !== EventSource.CLOSED) return; // the browser connects again by itself
    say("The dashboard does not answer. This page asks again."); // it was refused: browsers give up
    retry();
  };
}

function retry() {
  clearTimeout(again);
  again = setTimeout(follow, PATIENCE);
}

// Browsers allow few connections to one server: only a tab that is seen holds one.
function follow() {
  clearTimeout(again);
  if (source) source.close();
  source = null;
  if (!document.hidden) listen();
}

function ago(at) {
  const seconds = Date.now() / 1000 - at;
  const far = Math.abs(seconds);
  if (far < 1) return "now";
  const days = Math.floor(far / 86400);
  const rough = far < 60 ? `${Math.floor(far)} s` : far < 3600 ? `${Math.floor(far / 60)} min`
    : far < 86400 ? `${Math.floor(far / 3600)} h` : `${days} day${days === 1 ? "" : "s"}`;
  return seconds > 0 ? `${rough} ago` : `in ${rough}`;
}

if (body.dataset.events) {
  document.addEventListener("visibilitychange", follow);
  follow();
  setInterval(() => {
    for (const time of document.querySelectorAll("time[data-at]")) {
      if (Number(time.dataset.at) < 253402300800) time.textContent = ago(Number(time.dataset.at));
    }
  }, 5000);
}
