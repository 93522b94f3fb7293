// Plays the figures of figure.py. Gradio gives `element`, `trigger` and `watch`; all state belongs to this one page.
const PLAYING_TIME = 4000; // milliseconds of a whole drawing
const still = matchMedia("(prefers-reduced-motion: reduce)");
let frame = 0, chosen = 0, timer = 0;

const all = (selector, root = element) => [...root.querySelectorAll(selector)];
const last = () => Number(element.querySelector(".picture")?.dataset.frames ?? 1) - 1;

function show() {
  for (const figure of all(".drawing")) {
    all(".picture", figure).forEach((picture, i) => {
      const box = JSON.parse(picture.dataset.boxes)[frame];
      const [film, frameOfWindow] = picture.children;
      picture.setAttribute("aria-pressed", i === chosen);
      film.style.transform = `translateX(${(-100 * frame) / picture.dataset.frames}%)`;
      frameOfWindow.hidden = !box;
      if (box) ["left", "top", "width", "height"].forEach((side, k) => (frameOfWindow.style[side] = `${box[k]}%`));
    });
    for (const word of all("figcaption span", figure))
      word.style.setProperty("--light", `${100 * JSON.parse(word.dataset.lights)[chosen][frame]}%`);
  }
  const player = element.querySelector(".player");
  if (!player) return;
  const [button, range, output] = player.children;
  range.max = last();
  range.value = frame;
  button.textContent = timer ? "Pause" : "Play";
  output.textContent = frame < last() ? `step ${frame + 1} of ${last()}` : "finished";
}

function pause() {
  clearInterval(timer);
  timer = 0;
}

function play() {
  pause();
  if (frame >= last()) frame = 0;
  timer = setInterval(() => {
    frame = Math.min(frame + 1, last());
    if (frame === last()) pause();
    show();
  }, PLAYING_TIME / Math.max(1, last()));
}

function begin() {
  pause();
  chosen = 0;
  frame = still.matches ? last() : 0;
  if (frame < last()) play();
  show();
}

element.addEventListener("input", (event) => {
  pause();
  frame = Number(event.target.value);
  show();
});

element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.closest(".invitation")) return trigger("select", { caption: button.textContent });
  if (button.classList.contains("picture")) chosen = all(".picture", button.parentElement).indexOf(button);
  else timer ? pause() : play();
  show();
});

watch("value", begin);
begin();
