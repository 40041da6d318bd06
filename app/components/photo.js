// A photograph on which the weights of its regions are drawn: components that show one put this file before their own.
// Every word and label is text (textContent, setAttribute), never markup: words come from files.

const SVG = "http://www.w3.org/2000/svg"
const COLUMNS = 96
const FILLED = 5 // regions that are filled and outlined, at most
const SECOND = "#e58fc0" // the outline of a second region that is marked
const VEIL = 0.65 // painted outside of them, as if it were this multiple of the even share
// Told apart with every common colour blindness, and in print.
const PALETTES = {
  warm: [
    [255, 217, 102],
    [249, 140, 40],
    [200, 20, 30],
  ],
  cividis: [
    [0, 50, 100],
    [124, 123, 120],
    [253, 231, 55],
  ],
  violet: [
    [250, 210, 180],
    [222, 73, 104],
    [70, 15, 110],
  ],
}
const HEATS = { boxes: "top regions", map: "map of all" }
// How photographs are painted, the same for every component of this tab; the browser remembers it. `opacity` of the heat
// and `threshold`, the least share that is filled and outlined, are in percent; `labels`: whether outlines have labels;
// `glance`: whether all heads are shown; `read`: whether the caption shows which earlier words were read.
const LIMITS = { opacity: [0, 100], threshold: [0, 30] }
const usualView = { palette: "warm", heat: "boxes", opacity: 62, threshold: 3, labels: true, glance: false, read: true }
const view = (window.gliedView ??= { ...usualView, ...remembered() })

// What a person chose of a caption on one page is kept on the next, until the server sends another `count`: after Back or
// Forward, or after a head was chosen on a page without a board. `mode` to `all` are settings of a board.
const memory = (window.gliedMemory ??= {
  start: 0,
  head: 0,
  mode: "word",
  look: "fine",
  itself: true,
  beyond: true,
  all: false,
  steps: {}, // by digest of the trace
  pins: {},
})
function begin({ count, head }) {
  if (memory.start !== count) Object.assign(memory, { start: count, head, steps: {}, pins: {} })
}

function remembered() {
  const flag = (value) => typeof value === "boolean"
  const known = {
    palette: (value) => Object.hasOwn(PALETTES, value),
    heat: (value) => Object.hasOwn(HEATS, value),
    labels: flag,
    glance: flag,
    read: flag,
  }
  const within = (value, [least, most]) => Number.isFinite(value) && value >= least && value <= most
  const holds = (name, value) => known[name]?.(value) ?? (name in LIMITS && within(value, LIMITS[name]))
  try {
    return Object.fromEntries(
      Object.entries(JSON.parse(localStorage.getItem("gliedView"))).filter((pair) => holds(...pair)),
    )
  } catch {
    return {}
  } // nothing stored, or no storage
}

function setView(change) {
  Object.assign(view, change)
  try {
    localStorage.setItem("gliedView", JSON.stringify(view))
  } catch {
    /* a browser without storage forgets */
  }
  window.dispatchEvent(new Event("glied:view"))
}

// Calls node.repaint() after every change of the view, as long as the node exists.
function follow(node) {
  const kept = new WeakRef(node)
  const repaint = () => {
    const alive = kept.deref()
    if (!alive) window.removeEventListener("glied:view", repaint)
    else if (alive.isConnected) alive.repaint()
  }
  window.addEventListener("glied:view", repaint)
}

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value)
    else node.setAttribute(name, value)
  }
  node.append(...children)
  return node
}

// The same of SVG, without listeners.
function vector(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag)
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value)
  node.append(...children)
  return node
}

// Numbers as analysis/numbers.py writes them.
function percent(p) {
  if (p > 0 && p < 0.0005) return "< 0.1 %"
  return `${(100 * p).toFixed(p > 0 && p < 0.0995 ? 1 : 0)} %`
}
const times = (x) => `${x.toFixed(1)}×`
function signed(v, digits = 2) {
  if (v == null) return "–"
  const size = Math.abs(v).toFixed(digits)
  return (Number(size) === 0 ? "" : v < 0 ? "−" : "+") + size
}
const asShares = (weights) => {
  const sum = weights.reduce((a, b) => a + b, 0) || 1
  return weights.map((weight) => weight / sum)
}
const ranked = (weights, count) => [...weights.keys()].sort((a, b) => weights[b] - weights[a]).slice(0, count)

// The mean over heads (head 0) or a single one (1 ..) of tensor[head][row]; null where there is no such attention.
function pooled(tensor, head, row) {
  if (!tensor) return null
  if (head > 0) return tensor[head - 1][row]
  return tensor[0][row].map((_, i) => tensor.reduce((sum, one) => sum + one[row][i], 0) / tensor.length)
}

const headNames = (count) => ["Mean of heads", ...Array.from({ length: count }, (_, i) => `Head ${i + 1}`)]
// A list to choose a head from, 0 for the mean; choose(head) is called with it.
function headPicker(count, choose) {
  const options = headNames(count).map((name, head) => make("option", { value: head }, name))
  const picker = make("select", { "aria-label": "Attention head", change: () => choose(+picker.value) }, ...options)
  picker.hidden = count < 2 // nothing to choose
  return picker
}

// Listeners for what is visited by pointer or keyboard.
const visited = (enter, leave) => ({ pointerenter: enter, pointerleave: leave, focus: enter, blur: leave })

// Of a row of buttons only this one is pressed, and the Tab key comes to it unless a person is in the row.
function pressOnly(row, at) {
  ;[...row.children].forEach((button, i) => button.setAttribute("aria-pressed", i === at))
  if (row.children[at] && !row.contains(row.getRootNode().activeElement)) row.stopAt(row.children[at])
}

// The attributes as buttons; each(i) gives what else the one has. Words are said with their probability.
const chipRow = (label, words, scores, each) =>
  rove(
    make(
      "div",
      { class: "chips", role: "group", "aria-label": label },
      ...words.map((word, i) =>
        make(
          "button",
          {
            style: `--score: ${Math.round(45 * scores[i])}%`,
            title: `${word}: probability ${percent(scores[i])}; hover to see where`,
            ...each(i),
          },
          `${word} `,
          make("small", {}, scores[i].toFixed(2)),
        ),
      ),
    ),
  )

// A line of a list: a picture if any, a name, a bar, the weight (or the text `told` instead), and one more number or text,
// `last`. Without a weight (null) the bar shows `last`.
function weightRow(name, weight, reach, last, { css = "", picture, told } = {}) {
  const more = last === undefined ? "" : typeof last === "string" ? last : signed(last, 3)
  return make(
    "div",
    { class: `row ${picture ? "region" : "bare"} ${css}` },
    ...(picture ? [make("div", {}, picture)] : []),
    make("b", { title: name }, name),
    make("i", { style: `--share: ${(100 * (weight ?? Math.max(0, last))) / reach}%` }),
    make("data", {}, told ?? (weight === null ? "" : percent(weight))),
    make("data", { class: last > 0.1 ? "falls" : "" }, more),
  )
}
const heading = (text, note = "", help = "") => make("h3", { title: help }, text, make("em", {}, note))
const fallTold = (fall) =>
  fall == null ? "" : ` Without it the word’s log p ${fall < 0 ? "rises" : "falls"} by ${Math.abs(fall).toFixed(3)}.`

// A function that calls `send` at once. When calls follow one another fast, only the last of them is sent, after a pause,
// so that the server draws that alone. Its `stop` drops what was not sent yet.
function paced(send) {
  let timer = null
  let called = -Infinity
  const call = (...given) => {
    const fast = performance.now() - called < 400
    called = performance.now()
    clearTimeout(timer)
    timer = setTimeout(() => send(...given), fast ? 200 : 0)
  }
  call.stop = () => clearTimeout(timer)
  return call
}

// The settings of the view, folded away; put it among a component's controls.
function displaySettings() {
  const palette = make(
    "select",
    { change: () => setView({ palette: palette.value }) },
    ...Object.keys(PALETTES).map((name) => make("option", { value: name }, name)),
  )
  const heat = make(
    "select",
    { change: () => setView({ heat: heat.value }) },
    ...Object.entries(HEATS).map(([value, name]) => make("option", { value }, name)),
  )
  const labels = make("input", { type: "checkbox", change: () => setView({ labels: labels.checked }) })
  const ranges = Object.entries(LIMITS).map(([name, [min, max]]) => {
    const range = make("input", { type: "range", min, max, input: () => setView({ [name]: +range.value }) })
    return [name, range, make("span")]
  })
  const names = { opacity: "Opacity", threshold: "Outline from" }
  const summary = make("summary", {}, "Display")
  const details = make(
    "details",
    {
      class: "display",
      keydown: (event) => {
        if (event.key !== "Escape" || !details.open) return
        details.open = false
        summary.focus()
      },
    },
    summary,
    make(
      "div",
      {},
      make("label", {}, "Coloured", heat),
      make("label", {}, "Colours", palette),
      ...ranges.map(([name, range, value]) => make("label", {}, names[name], range, value)),
      make("label", {}, labels, "Labels"),
    ),
  )
  details.repaint = () => {
    palette.value = view.palette
    heat.value = view.heat
    labels.checked = view.labels
    for (const [name, range, value] of ranges) {
      range.value = view[name]
      value.textContent = `${view[name]} %`
    }
  }
  details.repaint()
  follow(details)
  return details
}

// `data` has photo (a URL), alt, size, boxes and labels; `attributes` go to the element, `stage`.
//   paint(weights, { marked, dashed, second, told, most }): the regions of most weight (null: none is coloured), the
//     marked one in blue and a second in pink; told(i) is the text in the label of region i, most the text at the right
//     end of the legend
//   paintSmall(canvases, lines): one small copy for each line of weights
//   at(event): the regions there, smallest first; among equals the one whose centre is nearest
//   crop(i, size): a small picture of a region; legend: what the colours mean
function photograph(data, attributes = {}) {
  const N = data.boxes.length
  const [width, height] = data.size
  const rows = Math.max(1, Math.round((COLUMNS * height) / width))
  const areas = data.boxes.map(([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1))
  const photo = make("img", { src: data.photo, alt: data.alt })
  const canvas = make("canvas", { width: COLUMNS, height: rows, "aria-hidden": "true" })
  const svg = vector("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none" })
  const tags = make("div", { "aria-hidden": "true" })
  const stage = make("div", { class: "stage", ...attributes }, photo, canvas, svg, tags)
  const scale = make("i", { "aria-hidden": "true" }),
    right = make("span")
  const legend = make("div", { class: "legend" }, "less", scale, right)

  function crop(i, size) {
    const [x1, y1, x2, y2] = data.boxes[i]
    const scale = size / Math.max(x2 - x1, y2 - y1)
    const small = make("canvas", {
      class: "crop",
      width: Math.max(6, Math.round((x2 - x1) * scale)),
      height: Math.max(6, Math.round((y2 - y1) * scale)),
      "aria-hidden": "true",
    })
    const paint = () => {
      const zoom = photo.naturalWidth / width
      small
        .getContext("2d")
        .drawImage(photo, x1 * zoom, y1 * zoom, (x2 - x1) * zoom, (y2 - y1) * zoom, 0, 0, small.width, small.height)
    }
    if (photo.complete && photo.naturalWidth) paint()
    else photo.addEventListener("load", paint, { once: true })
    return small
  }

  // Calls each(place) for every place of the canvas in the box of a region.
  function inside(i, each) {
    const [x1, y1, x2, y2] = data.boxes[i]
    const right = Math.min(COLUMNS, Math.ceil((x2 / width) * COLUMNS))
    const bottom = Math.min(rows, Math.ceil((y2 / height) * rows))
    for (let y = Math.floor((y1 / height) * rows); y < bottom; y++)
      for (let x = Math.floor((x1 / width) * COLUMNS); x < right; x++) each(y * COLUMNS + x)
  }
  // A map: each box spreads its weight over its area. The sum is divided by that of even weights, so that overlapping
  // boxes alone make no heat.
  function spread(weights) {
    const found = new Float64Array(COLUMNS * rows)
    weights.forEach((weight, i) => inside(i, (place) => (found[place] += weight / areas[i])))
    return found
  }
  const even = spread(data.boxes.map(() => 1 / N))
  // The regions of most weight, each filled with its own; where they overlap, the larger weight is seen.
  const top = (weights) =>
    ranked(weights, FILLED).filter((i) => weights[i] > 1.1 / N && 100 * weights[i] >= view.threshold)
  function fill(weights) {
    const found = new Float64Array(COLUMNS * rows).fill(VEIL)
    for (const i of top(weights)) inside(i, (place) => (found[place] = Math.max(found[place], weights[i] * N)))
    return found
  }

  const lifts = (weights) =>
    !weights
      ? new Float64Array(COLUMNS * rows).fill(1)
      : view.heat === "boxes"
        ? fill(weights)
        : spread(weights).map((v, i) => (even[i] ? v / even[i] : 0))
  const reachOf = (lift) => Math.max(1, Math.log2(Math.max(...lift)))
  function paintHeat(at, lift, reach) {
    const ramp = PALETTES[view.palette],
      cover = view.opacity / 100
    const context = at.getContext("2d")
    const pixels = context.createImageData(COLUMNS, rows)
    lift.forEach((value, i) => {
      const log = Math.log2(Math.max(value, 1e-3)),
        t = Math.min(1, Math.max(0, log / reach))
      const [a, b] = t < 0.5 ? [ramp[0], ramp[1]] : [ramp[1], ramp[2]],
        f = t < 0.5 ? 2 * t : 2 * t - 1
      for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = log > 0 ? a[c] + f * (b[c] - a[c]) : 15
      pixels.data[4 * i + 3] = log > 0 ? 255 * cover * t ** 0.7 : 255 * Math.min(cover, -0.5 * log)
    })
    context.putImageData(pixels, 0, 0)
  }

  function outline(i, colour, thick, opacity, dash) {
    const [x1, y1, x2, y2] = data.boxes[i]
    for (const [stroke, extra] of [
      ["#000", 2],
      [colour, 0],
    ]) {
      const values = {
        x: x1,
        y: y1,
        width: x2 - x1,
        height: y2 - y1,
        stroke,
        "stroke-width": thick + extra,
        "stroke-opacity": extra ? opacity / 2 : opacity,
      }
      if (dash && !extra) values["stroke-dasharray"] = dash
      svg.append(vector("rect", values))
    }
  }

  // A label in the first corner of its box, or the middle, or above or below it, where no other label lies.
  function label(i, text, taken, zoom, css = "") {
    const [x1, y1, x2, y2] = data.boxes[i]
    const w = (10 + 7 * text.length) / zoom,
      h = 20 / zoom,
      gap = 4 / zoom
    const spots = [
      [x1 + gap, y1 + gap],
      [x2 - w - gap, y1 + gap],
      [x1 + gap, y2 - h - gap],
      [x2 - w - gap, y2 - h - gap],
      [(x1 + x2 - w) / 2, y1 + gap],
      [(x1 + x2 - w) / 2, (y1 + y2 - h) / 2],
      [(x1 + x2 - w) / 2, y2 - h - gap],
      [x1, y1 - h - gap],
      [x1, y2 + gap],
    ].map(([x, y]) => [Math.max(0, Math.min(x, width - w)), Math.max(0, Math.min(y, height - h))])
    const [x, y] =
      spots.find(([x, y]) => taken.every(([u, v, uw]) => x + w < u || u + uw < x || y + h < v || v + h < y)) ?? spots[0]
    taken.push([x, y, w])
    tags.append(make("span", { class: css, style: `left: ${(100 * x) / width}%; top: ${(100 * y) / height}%` }, text))
  }

  let painted = null // the weights and marks that were painted last
  function paintBoxes(weights, { marked = null, dashed = false, second = null, told, most } = {}) {
    painted = [weights, { marked, dashed, second, told, most }]
    const zoom = (stage.clientWidth || 500) / width // once, before anything changes: to read it lays the page out
    svg.replaceChildren()
    tags.replaceChildren()
    const taken = [],
      reach = weights && Math.max(...weights)
    const others = weights ? top(weights).filter((i) => i !== marked && i !== second) : []
    const named = (i) =>
      !weights
        ? `${i + 1} ${data.labels[i] ?? ""}`.trim()
        : (data.labels[i] ? `${data.labels[i]} ` : "") + (told ? told(i) : percent(weights[i]))
    for (const i of [...others].reverse())
      outline(i, "#fff", 1 + 3 * (weights[i] / reach), 0.4 + 0.6 * (weights[i] / reach))
    if (second !== null) outline(second, SECOND, 4, 1)
    if (marked !== null) outline(marked, "#56b4e9", 4, 1, dashed ? "8 5" : "")
    if (!view.labels) return
    if (marked !== null) label(marked, named(marked), taken, zoom, "query")
    if (second !== null && second !== marked) label(second, named(second), taken, zoom, "second")
    for (const i of others) label(i, named(i), taken, zoom)
  }

  function under(x, y) {
    const distance = (i) =>
      Math.hypot((data.boxes[i][0] + data.boxes[i][2]) / 2 - x, (data.boxes[i][1] + data.boxes[i][3]) / 2 - y)
    const size = (i) => Math.round((areas[i] / (width * height)) * 200)
    return [...data.boxes.keys()]
      .filter((i) => data.boxes[i][0] <= x && x <= data.boxes[i][2] && data.boxes[i][1] <= y && y <= data.boxes[i][3])
      .sort((a, b) => size(a) - size(b) || distance(a) - distance(b))
  }
  function at(event) {
    const frame = stage.getBoundingClientRect()
    return under(
      ((event.clientX - frame.left) / frame.width) * width,
      ((event.clientY - frame.top) / frame.height) * height,
    )
  }
  const centre = (i) => [(data.boxes[i][0] + data.boxes[i][2]) / 2, (data.boxes[i][1] + data.boxes[i][3]) / 2]
  // The next region that way: near, straight ahead and of like size.
  function neighbour(from, dx, dy) {
    const [x, y] = centre(from)
    let best = from,
      least = Infinity
    for (const i of data.boxes.keys()) {
      const [u, v] = centre(i),
        ahead = (u - x) * dx + (v - y) * dy,
        aside = Math.abs((u - x) * dy) + Math.abs((v - y) * dx)
      const cost = ahead + 2 * aside + (width + height) * Math.abs(Math.log(areas[i] / areas[from]))
      if (ahead > 1 && cost < least) [best, least] = [i, cost]
    }
    return best
  }
  // Where a key leads from a region: an arrow to the next, + and - to the larger and smaller around the same place.
  function visit(from, key) {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key]
    if (move) return neighbour(from, ...move)
    const found = under(...centre(from))
    if (key === "+" || key === "-") return found[found.indexOf(from) + (key === "+" ? 1 : -1)] ?? from
  }

  function paint(weights, marks = {}) {
    const lift = lifts(weights),
      reach = reachOf(lift)
    paintHeat(canvas, lift, reach)
    legend.hidden = !weights
    const ramp = PALETTES[view.palette].map((c) => `rgb(${c})`).join(", ")
    scale.style.background = `linear-gradient(90deg, #222, #aaa 33%, ${ramp})`
    right.textContent = marks.most ?? `${times(2 ** reach)} the even share, which the mark shows`
    paintBoxes(weights, marks)
  }
  // Small copies of the photograph, a canvas for each line of weights, all on one scale.
  function paintSmall(canvases, lines) {
    const each = lines.map(lifts),
      reach = Math.max(...each.map(reachOf))
    const heat = make("canvas", { width: COLUMNS, height: rows })
    canvases.forEach((small, i) => {
      paintHeat(heat, each[i], reach)
      const context = small.getContext("2d")
      if (photo.complete && photo.naturalWidth) context.drawImage(photo, 0, 0, small.width, small.height)
      context.drawImage(heat, 0, 0, small.width, small.height)
    })
  }
  stage.repaint = () => painted && paint(...painted)
  follow(stage)

  return { stage, legend, photo, crop, at, visit, paint, paintBoxes, paintSmall }
}
