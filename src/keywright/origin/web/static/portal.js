// The portals' only script. Everything can be read and sent without it; it saves a page load here and there.
"use strict";

const say = (() => {
  // Told to screen readers as well.
  const region = document.createElement("div");
  region.className = "hidden-label";
  region.setAttribute("role", "status");
  document.body.append(region);
  return (words) => { region.textContent = words; };
})();

/** Sends a form as it would send itself, and returns the JSON that is answered. */
async function ask(form, action = form.action) {
  const answer = await fetch(action, {
    method: "POST",
    headers: { Accept: "application/json" },
    body: new URLSearchParams(new FormData(form)),
  });
  const values = await answer.json();
  if (!answer.ok) throw new Error(values.detail || values.title);
  return values;
}

/** Shows for a moment on the button itself how it went. */
function flash(button, words) {
  const before = button.dataset.words ?? button.textContent;
  button.dataset.words = before;
  const text = [...button.childNodes].findLast((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
  if (text) text.data = ` ${words}`;
  say(words);
  clearTimeout(button.timer);
  button.timer = setTimeout(() => { if (text) text.data = ` ${before.trim()}`; }, 2000);
}

async function copy(button, secret) {
  try {
    // Handed over as a promise: the browser lets a page write while the click still counts.
    const text = Promise.resolve(secret).then((value) => new Blob([value], { type: "text/plain" }));
    await navigator.clipboard.write([new ClipboardItem({ "text/plain": text })]);
    await text;
    flash(button, "Copied");
  } catch (error) {
    flash(button, "Not copied");
    say(error.message);
  }
}

const HIDE_AFTER_SECONDS = 60;

/** Shows a key in its place, until it is hidden again or a minute has passed. */
async function reveal(form) {
  const button = form.querySelector("button");
  const place = document.getElementById(form.dataset.reveal);
  const hide = () => {
    clearTimeout(form.timer);
    place.textContent = place.dataset.masked;
    button.querySelector("span").textContent = "Reveal";
    delete form.dataset.isShown;
  };
  if (form.dataset.isShown) {
    hide();
    return;
  }
  try {
    const { secret } = await ask(form);
    place.dataset.masked ??= place.textContent;
    place.textContent = secret;
    button.querySelector("span").textContent = "Hide";
    form.dataset.isShown = "yes";
    form.timer = setTimeout(hide, HIDE_AFTER_SECONDS * 1000);
    say("The key is shown.");
  } catch {
    // The page that tells why.
    form.submit();
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copy(button, document.getElementById(button.dataset.copy).textContent.trim());
  for (const menu of document.querySelectorAll("details.switcher[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.switcher[open], details.phone-menu[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  if ("reveal" in form.dataset) {
    event.preventDefault();
    reveal(form);
  } else if ("copySecret" in form.dataset) {
    event.preventDefault();
    copy(form.querySelector("button"), ask(form).then((values) => values.secret));
  } else if ("themeChoice" in form.dataset && event.submitter) {
    event.preventDefault();
    chooseTheme(form, event.submitter);
  } else if (form.method === "post") {
    // A second click sends nothing; if it did, it would be done once.
    if (form.dataset.isSent) event.preventDefault();
    form.dataset.isSent = "yes";
  }
});

// A page that comes back from the browser's memory can send again.
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-is-sent]")) delete form.dataset.isSent;
});

function chooseTheme(form, chosen) {
  const fields = new URLSearchParams(new FormData(form, chosen));
  fetch(form.action, { method: "POST", body: fields, redirect: "manual" });
  document.documentElement.dataset.theme = chosen.value;
  for (const button of document.querySelectorAll("[data-theme-choice] button")) {
    button.setAttribute("aria-pressed", String(button.value === chosen.value));
  }
}

/** Puts the picture that was chosen into the field that is sent, unless it is too large to be taken. */
function takePicture(input) {
  const field = document.getElementById(input.dataset.picture);
  const file = input.files[0];
  const isTooLarge = file && file.size > Number(input.dataset.most);
  input.setCustomValidity(isTooLarge ? `Choose an image of at most ${input.dataset.most / 1024} KiB.` : "");
  input.reportValidity();
  field.value = "";
  if (!file || isTooLarge) return;
  const reader = new FileReader();
  reader.addEventListener("load", () => { field.value = reader.result; });
  reader.readAsDataURL(file);
}

document.addEventListener("change", (event) => {
  if (event.target.matches("input[data-picture]")) takePicture(event.target);
  if (event.target.matches("select[data-auto]")) event.target.form.requestSubmit();
});
