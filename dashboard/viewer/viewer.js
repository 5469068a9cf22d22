// A stack viewer with the habits of the trade: the wheel goes through slices, a drag sets the window, a double click fits.
// The scan and the heat map share one view. What is chosen goes back to Python as `slice` and `look`, for the exports.
// Fingers do what a mouse does with keys held: two of them zoom, and one moves what is larger than its frame.

const SIDE = 640; // of a drawn canvas, in pixels
const BASE = { level: 128, width: 256, zoom: 1, across: 0.5, down: 0.5, opacity: 0.6, colours: "Inferno", evidence: "for cancer" };
const viewers = new WeakMap();

export default function (component) {
  const { data, parentElement } = component;
  let viewer = viewers.get(parentElement);
  if (!viewer) {
    viewer = makeViewer(parentElement);
    viewers.set(parentElement, viewer);
  }
  viewer.tell = component.setStateValue;
  viewer.show(data);
}

function makeViewer(root) {
  const find = (selector) => root.querySelector(selector);
  const canvases = [find(".plain"), find(".covered canvas")];
  const state = { id: "", place: 0, look: { ...BASE }, line: null, isMeasuring: false };
  const pixels = new Map(); // decoded slices by their place
  const viewer = { tell: () => {}, show };
  let data = { slices: [] };
  let drawn = -1; // counts draws, so that a slow decode never paints over a later choice

  function show(fresh) {
    const isOther = fresh.id !== state.id;
    data = fresh;
    if (isOther) {
      pixels.clear();
      Object.assign(state, { id: data.id, place: data.start, line: null });
      state.look = { ...state.look, zoom: 1, across: 0.5, down: 0.5, level: BASE.level, width: BASE.width };
    }
    find(".stack").hidden = data.slices.length < 2;
    find(".slice").max = data.slices.length;
    find(".colours").replaceChildren(...Object.keys(data.colours).map((name) => new Option(name)));
    find(".habits").textContent = matchMedia("(pointer: coarse)").matches
      ? "Drag sideways: window. Two fingers: zoom, and then one: move. Double tap: fit."
      : `${data.slices.length > 1 ? "Wheel or arrow keys: slices. " : ""}Drag: window. Ctrl and wheel, + and -: zoom. Shift and drag: move. Double click or 0: fit.`;
    draw();
  }

  async function draw() {
    const order = ++drawn;
    const slice = data.slices[state.place];
    const decoded = await decode(state.place);
    if (order !== drawn || slice !== data.slices[state.place]) return;
    const { look } = state;
    const hasHeat = Boolean(decoded.heat);
    find(".covered").hidden = find(".heat").hidden = !hasHeat;
    paint(canvases[0], decoded, windowed(decoded, look));
    if (hasHeat) paint(canvases[1], decoded, blended(decoded, look, data.colours[look.colours]));
    canvases[0].setAttribute("aria-label", "The scan as it was sent");
    canvases[1].setAttribute("aria-label", `The scan with the evidence ${look.evidence} in colour`);
    find(".covered figcaption").textContent = `Evidence ${look.evidence}`;
    if (find(".answer").textContent !== slice.sentence) find(".answer").textContent = slice.sentence;
    for (const name of ["level", "width", "opacity", "evidence", "colours"]) find(`.${name}`).value = look[name];
    find(".slice").value = state.place + 1;
    find("output").textContent = `${state.place + 1} of ${data.slices.length}`;
    for (const canvas of canvases) canvas.style.touchAction = look.zoom > 1 || state.isMeasuring ? "none" : "pan-y";
    legend(data.colours[look.colours]);
    strip();
    length(decoded);
    root.querySelector(".viewer").dataset.painted = `${state.id} ${state.place} ${JSON.stringify(look)}`;
  }

  async function decode(place) {
    if (!pixels.has(place)) {
      const slice = data.slices[place];
      pixels.set(place, Promise.all([pixelsOf(slice.image), slice.heat ? pixelsOf(slice.heat) : null]).then(
        ([image, heat]) => ({ image, heat: heat && stretched(heat, image.width, image.height) })));
      if (pixels.size > 40) pixels.delete(pixels.keys().next().value);
    }
    return pixels.get(place);
  }

  function paint(canvas, { image }, content) {
    const scale = SIDE / Math.max(image.width, image.height);
    canvas.width = Math.round(image.width * scale);
    canvas.height = Math.round(image.height * scale);
    const whole = new OffscreenCanvas(image.width, image.height);
    whole.getContext("2d").putImageData(content, 0, 0);
    const context = canvas.getContext("2d");
    const [left, top, wide, tall] = part(image);
    context.imageSmoothingQuality = "high";
    context.drawImage(whole, left, top, wide, tall, 0, 0, canvas.width, canvas.height);
    if (state.line) rule(context, canvas, image);
  }

  function part({ width, height }) {
    const { zoom, across, down } = state.look;
    const [wide, tall] = [width / zoom, height / zoom];
    return [(width - wide) * across, (height - tall) * down, wide, tall];
  }

  function rule(context, canvas, image) {
    const [left, top, wide, tall] = part(image);
    const [from, to] = state.line.map(([x, y]) => [((x - left) / wide) * canvas.width, ((y - top) / tall) * canvas.height]);
    context.lineWidth = 3;
    context.strokeStyle = "#ffd84d";
    context.beginPath();
    context.moveTo(...from);
    context.lineTo(...to);
    context.stroke();
  }

  function length({ image }) {
    const place = find(".length");
    place.hidden = !state.line && !state.isMeasuring;
    if (!state.line) {
      place.textContent = "Drag a line over the scan.";
      return;
    }
    const [[a, b], [c, d]] = state.line;
    const long = Math.hypot(c - a, d - b);
    const spacing = data.extent_mm && data.extent_mm / Math.max(image.width, image.height);
    place.textContent = spacing
      ? `Length ${(long * spacing).toFixed(1)} mm`
      : `Length ${long.toFixed(0)} pixels; the file does not say how large a pixel is.`;
  }

  function legend(colours) {
    const canvas = find(".legend canvas");
    const context = canvas.getContext("2d");
    for (let x = 0; x < canvas.width; x++) {
      context.fillStyle = `rgb(${colours[Math.round((x / (canvas.width - 1)) * 255)].join(",")})`;
      context.fillRect(x, 0, 1, canvas.height);
    }
  }

  function strip() {
    const canvas = find(".strip");
    canvas.width = canvas.clientWidth || 600;
    const context = canvas.getContext("2d");
    const wide = canvas.width / data.slices.length;
    data.slices.forEach((slice, place) => {
      const tall = slice.height * (canvas.height - 8) + 4;
      context.fillStyle = slice.colour;
      context.globalAlpha = place === state.place ? 1 : 0.55;
      context.fillRect(place * wide, canvas.height - tall, Math.max(wide - 1, 1), tall);
      if (place === state.place) {
        context.strokeStyle = getComputedStyle(canvas).color;
        context.strokeRect(place * wide + 0.5, 0.5, Math.max(wide - 1, 1), canvas.height - 1);
      }
    });
  }

  function go(place) {
    const next = Math.min(Math.max(place, 0), data.slices.length - 1);
    if (next === state.place) return;
    state.place = next;
    state.line = null;
    draw();
    later("slice", () => viewer.tell("slice", { id: state.id, place: state.place }), 150);
  }

  function change(values) {
    state.look = { ...state.look, ...values };
    draw();
    later("look", () => viewer.tell("look", state.look), 400);
  }

  const waiting = {};
  function later(name, act, ms) {
    clearTimeout(waiting[name]);
    waiting[name] = setTimeout(act, ms);
  }

  const zoomed = (factor) => change({ zoom: Math.min(Math.max(state.look.zoom * factor, 1), 8) });
  const fit = () => change({ zoom: 1, across: 0.5, down: 0.5, level: BASE.level, width: BASE.width });
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  function measure(isOn = !state.isMeasuring) {
    state.isMeasuring = isOn;
    state.line = null;
    find(".measure").setAttribute("aria-pressed", isOn);
    draw();
  }

  const keys = {
    ArrowUp: () => go(state.place - 1), ArrowLeft: () => go(state.place - 1),
    ArrowDown: () => go(state.place + 1), ArrowRight: () => go(state.place + 1),
    Home: () => go(0), End: () => go(data.slices.length - 1),
    "+": () => zoomed(1.25), "=": () => zoomed(1.25), "-": () => zoomed(0.8), 0: fit, m: () => measure(),
  };

  const fingers = new Map(); // the last event of each pointer that is down, by its id

  for (const canvas of canvases) {
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && data.slices.length < 2) return; // the page scrolls on
      event.preventDefault();
      if (event.ctrlKey) zoomed(event.deltaY < 0 ? 1.15 : 1 / 1.15);
      else go(state.place + Math.sign(event.deltaY));
    }, { passive: false });
    canvas.addEventListener("dblclick", fit);
    canvas.addEventListener("keydown", (event) => {
      const act = keys[event.key];
      if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      act();
    });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, event);
      if (fingers.size === 2) follow(pinched());
      else drag(canvas, event);
    });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => fingers.delete(event.pointerId));
  }

  function follow(move) {
    const stage = find(".stage"); // two fingers may lie on one picture each
    const end = () => {
      stage.removeEventListener("pointermove", move);
      for (const name of ["pointerup", "pointercancel"]) stage.removeEventListener(name, end);
    };
    stage.addEventListener("pointermove", move);
    for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, end);
  }

  function pinched() {
    const apart = () => {
      const [one, other] = fingers.values();
      return Math.max(Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY), 1);
    };
    const [before, zoom] = [apart(), state.look.zoom];
    return (event) => {
      fingers.set(event.pointerId, event);
      change({ zoom: clamp((zoom * apart()) / before, 1, 8) });
    };
  }

  async function drag(canvas, start) {
    const box = canvas.getBoundingClientRect();
    const { image } = await decode(state.place);
    const before = { ...state.look };
    const at = (event) => {
      const [left, top, wide, tall] = part(image);
      return [left + ((event.clientX - box.left) / box.width) * wide, top + ((event.clientY - box.top) / box.height) * tall];
    };
    const from = at(start);
    follow((event) => {
      if (fingers.size > 1 || event.pointerId !== start.pointerId) return;
      const [x, y] = [(event.clientX - start.clientX) / box.width, (event.clientY - start.clientY) / box.height];
      if (state.isMeasuring) {
        state.line = [from, at(event)];
        draw();
      } else if ((event.shiftKey || event.pointerType === "touch") && before.zoom > 1) {
        const reach = before.zoom - 1;
        change({ across: clamp(before.across - x / reach, 0, 1), down: clamp(before.down - y / reach, 0, 1) });
      } else {
        change({ width: clamp(Math.round(before.width + x * 256), 2, 512), level: clamp(Math.round(before.level + y * 256), 0, 255) });
      }
    });
  }

  find(".slice").addEventListener("input", (event) => go(event.target.valueAsNumber - 1));
  find(".strip").addEventListener("click", (event) => {
    const box = event.target.getBoundingClientRect();
    go(Math.floor(((event.clientX - box.left) / box.width) * data.slices.length));
  });
  find(".urgent").addEventListener("click", () => go(data.urgent));
  find(".in").addEventListener("click", () => zoomed(1.25));
  find(".out").addEventListener("click", () => zoomed(0.8));
  find(".fit").addEventListener("click", fit);
  find(".measure").addEventListener("click", () => measure());
  for (const name of ["level", "width", "opacity"]) {
    find(`.${name}`).addEventListener("input", (event) => change({ [name]: event.target.valueAsNumber }));
  }
  for (const name of ["evidence", "colours"]) {
    find(`.${name}`).addEventListener("change", (event) => change({ [name]: event.target.value }));
  }
  return viewer;
}

async function pixelsOf(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}

function stretched(pixels, width, height) {
  if (pixels.width === width && pixels.height === height) return pixels;
  const small = new OffscreenCanvas(pixels.width, pixels.height);
  small.getContext("2d").putImageData(pixels, 0, 0);
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(small, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

// Linear between level - width / 2 (black) and level + width / 2 (white), as overlay.py does for the exports.
function windowed({ image }, look) {
  const levels = Uint8ClampedArray.from({ length: 256 }, (_, grey) => ((grey - look.level) / look.width + 0.5) * 255);
  const shown = new ImageData(image.width, image.height);
  for (let at = 0; at < image.data.length; at += 4) {
    for (let channel = 0; channel < 3; channel++) shown.data[at + channel] = levels[image.data[at + channel]];
    shown.data[at + 3] = 255;
  }
  return shown;
}

// Heat is grey: 128 is no evidence, 255 the strongest for cancer, 1 the strongest against it.
function blended(decoded, look, colours) {
  const shown = windowed(decoded, look);
  const sign = look.evidence === "for cancer" ? 1 : -1;
  for (let at = 0; at < shown.data.length; at += 4) {
    const heat = Math.max((sign * (decoded.heat.data[at] - 128)) / 127, 0);
    const weight = look.opacity * heat;
    if (!weight) continue;
    const colour = colours[Math.round(Math.min(heat, 1) * 255)];
    for (let channel = 0; channel < 3; channel++) {
      shown.data[at + channel] = shown.data[at + channel] * (1 - weight) + colour[channel] * weight;
    }
  }
  return shown;
}
