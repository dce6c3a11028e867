// What pages can do better with a script: keys, copying, local time, live lists. Without it every page still works.
"use strict";

const all = (selector) => [...document.querySelectorAll(selector)];

// Keys: not while somebody types.
const rows = () => all("tbody tr").filter((row) => row.querySelector("a"));

function move(step) {
  const found = rows();
  const at = found.findIndex((row) => row.contains(document.activeElement));
  const next = at < 0 ? (step > 0 ? 0 : found.length - 1) : Math.min(Math.max(at + step, 0), found.length - 1);
  found[next]?.querySelector("a").focus();
}

const keys = {
  "/": () => document.querySelector("#search")?.focus(),
  j: () => move(1),
  k: () => move(-1),
  o: () => document.activeElement.closest("tr")?.querySelector("a").click(),
  "?": () => document.querySelector("#keys")?.showModal(),
};

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input:not([type=checkbox]), select, textarea, dialog[open]");
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(keys, event.key)) return;
  event.preventDefault();
  keys[event.key]();
});

// Times: in UTC as they come, or in the browser's zone.
const isLocal = () => localStorage.getItem("malote_time") === "local";

function showTimes() {
  const format = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "short", timeStyle: "medium" });
  for (const time of all("time")) {
    time.dataset.utc ??= time.title || time.textContent;
    const text = isLocal() ? format.format(new Date(time.dateTime)) : time.dataset.utc;
    if (time.title) time.title = text;
    else time.textContent = text;
  }
  for (const button of all("[data-time]")) button.setAttribute("aria-pressed", isLocal());
}

// A part of this page as it is now.
async function renew(selector) {
  const answer = await fetch(location.href, { headers: { "malote-renewal": "yes" } });
  if (!answer.ok || answer.redirected) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const [here, there] = [document.querySelector(selector), page.querySelector(selector)];
  if (here && there) here.replaceWith(there);
  begin();
}

// A list that grows: the server says at most once a second how many rows are new.
function follow(bar) {
  const [pause, fresh] = bar.querySelectorAll("button");
  const text = fresh.dataset.text;
  // What comes faster than anybody reads is shown every few seconds; until then its number is.
  const [page, pauseMs] = [50, 5000];
  let count = 0, more = "", isPaused = false, isBusy = false, shownAt = 0;
  const show = async () => {
    if (isBusy) return;
    isBusy = true;
    shownAt = Date.now();
    [count, more] = [0, ""];
    fresh.hidden = true;
    await renew("#rows").catch(() => {});
    isBusy = false;
  };
  const stream = new EventSource(bar.dataset.live);
  stream.onmessage = ({ data }) => {
    count += parseInt(data, 10);
    if (data.endsWith("+")) more = "+";
    const isFlood = parseInt(data, 10) >= page && Date.now() - shownAt < pauseMs;
    if (!isPaused && !document.hidden && !isFlood) return show();
    fresh.textContent = text.replace("{}", count + more);
    fresh.hidden = false;
  };
  pause.addEventListener("click", () => {
    isPaused = !isPaused;
    pause.setAttribute("aria-pressed", isPaused);
    if (!isPaused && count > 0) show();
  });
  fresh.addEventListener("click", show);
  bar.hidden = false;
}

// Views that somebody has saved in this browser: a name, and the address with its filter.
function keepViews(form) {
  const key = "malote_views";
  const list = form.querySelector("ul");
  const load = () => JSON.parse(localStorage.getItem(key) ?? "[]");
  const save = (views) => {
    localStorage.setItem(key, JSON.stringify(views));
    show();
  };
  const entry = ({ name, href }) => {
    const [item, link, button] = ["li", "a", "button"].map((tag) => document.createElement(tag));
    Object.assign(link, { href, textContent: name });
    Object.assign(button, { type: "button", className: "quiet", textContent: "×", ariaLabel: `${form.dataset.remove} ${name}` });
    button.addEventListener("click", () => save(load().filter((view) => view.name !== name)));
    item.append(link, " ", button);
    return item;
  };
  const show = () => list.replaceChildren(...load().map(entry));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const name = form.elements.name.value.trim();
    save([...load().filter((view) => view.name !== name), { name, href: location.pathname + location.search }]);
    form.reset();
  });
  show();
  form.hidden = false;
}

// What is on the page now, once each.
function begin() {
  const once = (selector, act) => all(selector).filter((one) => !one.dataset.begun).forEach((one) => {
    one.dataset.begun = "yes";
    act(one);
  });
  showTimes();
  once("[data-live]", follow);
  once("[data-views]", keepViews);
  once("[data-running]", () => {
    const again = () => renew("main").catch(() => setTimeout(again, 5000));
    setTimeout(again, 1000);
  });
  once("[data-copy]", (button) => {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const source = document.querySelector(button.dataset.copy);
      getSelection().selectAllChildren(source);
      await navigator.clipboard?.writeText(source.textContent);
      button.textContent = button.dataset.done;
    });
  });
  once("[data-time]", (button) => {
    button.hidden = false;
    button.addEventListener("click", () => {
      localStorage.setItem("malote_time", isLocal() ? "utc" : "local");
      showTimes();
    });
  });
  once("[data-keys]", (button) => {
    button.hidden = false;
    button.addEventListener("click", keys["?"]);
  });
}

begin();
