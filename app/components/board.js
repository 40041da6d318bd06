// The board. Every word and label is text (textContent, setAttribute), never markup: words come from files.
// Hovering never sends anything; a choice (word, head) is sent once, when it is made.

const SVG = "http://www.w3.org/2000/svg"
const COLUMNS = 96
const RAMP = [[255, 217, 102], [249, 140, 40], [200, 20, 30]]

// What a person chose on one board holds on the next, on every page of this tab.
const memory = (window.gliedBoards ??= { head: null, mode: "word", look: "fine", itself: true, steps: {} })

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value)
    else node.setAttribute(name, value)
  }
  node.append(...children)
  return node
}

const percent = (p) => (p < 0.0995 ? (100 * p).toFixed(1) : Math.round(100 * p)) + " %"
const signed = (v) => (v == null ? "–" : (v < -0.005 ? "−" : v > 0.005 ? "+" : "") + Math.abs(v).toFixed(2))
const ranked = (weights, count) => [...weights.keys()].sort((a, b) => weights[b] - weights[a]).slice(0, count)

// The mean over heads (head 0) or a single one (1 ..) of tensor[head][row].
function pooled(tensor, head, row) {
  if (head > 0) return tensor[head - 1][row]
  return tensor[0][row].map((_, i) => tensor.reduce((sum, one) => sum + one[row][i], 0) / tensor.length)
}

export default function ({ data, parentElement, setStateValue }) {
  const old = parentElement.querySelector(".board")
  const drawn = data.digest + data.partner + data.alt
  if (old?.drawn === drawn) {
    old.send = setStateValue
    return old.leave
  }
  old?.leave()
  old?.remove()

  const N = data.boxes.length
  const [width, height] = data.size
  const rows = Math.max(1, Math.round((COLUMNS * height) / width))
  const areas = data.boxes.map(([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1))
  const modes = data.groups && !data.partner ? ["word", "groups"] : ["word"]

  // ---- what is in view
  if (memory.head === null) memory.head = data.start.head
  const remembered = data.digest in memory.steps
  const starting = Object.keys(memory.steps).length ? null : data.start.step
  const paired = data.partner in memory.steps ? data.pairs.indexOf(memory.steps[data.partner]) : -1
  let step = memory.steps[data.digest] ?? (paired >= 0 ? paired : (starting ?? data.first))
  step = Math.min(step, data.words.length - 1)
  memory.head = Math.min(memory.head, data.heads)
  memory.steps[data.digest] = step
  let pinned = null // region
  let hovered = null // region
  let attribute = null // hovered or pinned attribute chip
  let pinnedAttribute = null
  let timer = null

  const mode = () => (modes.includes(memory.mode) ? memory.mode : "word")
  const look = () => (data.coarse ? memory.look : "fine")
  const regionWeights = () => pooled(look() === "coarse" ? data.coarse : data.fine, memory.head, step)
  const query = () => hovered ?? pinned ?? ranked(regionWeights(), 1)[0]

  function groupOf(region) {
    const weights = [...pooled(data.groups, memory.head, region)]
    if (memory.itself) return weights
    weights[region] = 0
    const sum = weights.reduce((a, b) => a + b, 0) || 1
    return weights.map((w) => w / sum)
  }
  function shown() {
    const seen = attribute ?? pinnedAttribute
    if (seen !== null) {
      const sum = data.seen[seen].reduce((a, b) => a + b, 0) || 1
      return data.seen[seen].map((p) => p / sum)
    }
    return mode() === "groups" ? groupOf(query()) : regionWeights()
  }

  // ---- elements
  const words = make("div", { class: "words", role: "group", "aria-label": "The caption, word by word" })
  const play = make("button", { class: "round", "aria-label": "Play the caption", title: "Play", click: toggle }, "▶")
  const slider = make("input", { type: "range", min: 0, max: data.words.length - 1, "aria-label": "Word of the caption",
    input: () => choose(+slider.value, false), change: () => choose(+slider.value) })
  const place = make("span")
  const heads = make("select", { "aria-label": "Attention head", change: () => { memory.head = +heads.value; draw(); tell({ head: memory.head }); commit() } },
    ...["Mean of heads", ...Array.from({ length: data.heads }, (_, i) => `Head ${i + 1}`)].map((name, i) =>
      make("option", { value: i }, name)))
  const tabs = (names, get, set) => {
    const group = make("div", { class: "tabs", role: "group" }, ...Object.entries(names).map(([value, [name, title]]) =>
      make("button", { value, title, click: () => { set(value); draw() } }, name)))
    group.update = () => [...group.children].forEach((b) => b.setAttribute("aria-pressed", b.value === get()))
    return group
  }
  const modeTabs = tabs({ word: ["The word", "Where the model looked for each word"], groups: ["Region groups", "Which regions belong together: GLIED Eq. (9)"] }, mode, (value) => { stop(); memory.mode = value })
  const lookTabs = tabs({ coarse: ["Groups first", "Attention over region groups: GLIED Eq. (12)"], fine: ["Regions revisited", "Attention over single regions, with the groups in view: GLIED Eq. (13)"] }, look, (value) => { memory.look = value })
  const itself = make("input", { type: "checkbox", change: () => { memory.itself = !itself.checked; draw() } })
  const itselfLabel = make("label", {}, itself, "Leave the region itself out")
  const controls = make("div", { class: "controls" },
    ...(modes.length > 1 ? [modeTabs] : []),
    make("div", {}, play, slider, place), make("div", {}, heads),
    ...(data.coarse ? [lookTabs] : []), ...(modes.length > 1 ? [itselfLabel] : []))

  const photo = make("img", { src: data.photo, alt: data.alt })
  const canvas = make("canvas", { width: COLUMNS, height: rows, "aria-hidden": "true" })
  const svg = document.createElementNS(SVG, "svg")
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`)
  svg.setAttribute("preserveAspectRatio", "none")
  const tags = make("div", { "aria-hidden": "true" })
  const stage = make("div", { class: "stage", tabindex: 0, role: "application",
    "aria-label": `${data.alt}. ${N} regions: arrow keys move, plus and minus change the size, Enter pins, Escape clears.`,
    style: `max-width: calc(min(100%, ${Math.round((470 * width) / height)}px))`,
    pointermove: hover, pointerleave: () => point(null), click: pin, keydown: press }, photo, canvas, svg, tags)
  const most = make("span")
  const legend = make("div", { class: "legend" }, "less", make("i", { "aria-hidden": "true" }), most)
  const readout = make("p", { class: "readout", "aria-live": "polite" })
  const minis = make("div", { class: "minis", role: "group", "aria-label": "All regions" },
    ...data.boxes.map((_, i) => make("button", { "aria-label": `Region ${i + 1}, ${data.names[i]}`, title: `${i + 1}: ${data.names[i]}`,
      pointerenter: () => point(i), pointerleave: () => point(null), click: () => { pinned = pinned === i ? null : i; draw() } }, crop(i, 38))))
  const keys = make("p", { class: "keys" }, "Hover or use the arrow keys to visit a region, click or Enter pins it, again for the next larger, Esc clears." +
    (data.labels.length ? " What a region is called is its detector’s guess." : ""))
  const chips = make("div", { class: "chips", role: "group", "aria-label": "The likeliest attributes of the photograph" },
    ...data.attributes.map((word, i) => make("button", { style: `--score: ${Math.round(45 * data.scores[i])}%`,
      title: `${word}: probability ${percent(data.scores[i])}; hover to see where`,
      pointerenter: () => { attribute = i; draw() }, pointerleave: () => { attribute = null; draw() },
      click: () => { pinnedAttribute = pinnedAttribute === i ? null : i; draw() } }, word + " ", make("small", {}, data.scores[i].toFixed(2)))))
  const panel = make("div", { class: "panel" })
  const board = make("div", { class: "board" }, words, controls,
    make("div", { class: "parts" }, make("div", {}, stage, legend, readout, minis, keys), panel),
    make("h4", {}, `The ${data.attributes.length} likeliest attributes of the photograph, and the probability of each`), chips)

  // ---- drawing
  function crop(i, size) {
    const [x1, y1, x2, y2] = data.boxes[i]
    const scale = size / Math.max(x2 - x1, y2 - y1)
    const small = make("canvas", { class: "crop", width: Math.max(6, Math.round((x2 - x1) * scale)), height: Math.max(6, Math.round((y2 - y1) * scale)), "aria-hidden": "true" })
    const paint = () => {
      const zoom = photo.naturalWidth / width
      small.getContext("2d").drawImage(photo, x1 * zoom, y1 * zoom, (x2 - x1) * zoom, (y2 - y1) * zoom, 0, 0, small.width, small.height)
    }
    if (photo.complete && photo.naturalWidth) paint()
    else photo.addEventListener("load", paint, { once: true })
    return small
  }

  // Each box spreads its weight over its area; drawHeat divides by what even weights would give, so that
  // overlapping boxes alone make no heat.
  function heat(weights) {
    const found = new Float64Array(COLUMNS * rows)
    weights.forEach((weight, i) => {
      const [x1, y1, x2, y2] = data.boxes[i]
      const right = Math.ceil((x2 / width) * COLUMNS), bottom = Math.min(rows, Math.ceil((y2 / height) * rows))
      for (let y = Math.floor((y1 / height) * rows); y < bottom; y++)
        for (let x = Math.floor((x1 / width) * COLUMNS); x < Math.min(right, COLUMNS); x++) found[y * COLUMNS + x] += weight / areas[i]
    })
    return found
  }
  const even = heat(data.boxes.map(() => 1 / N))

  function drawHeat(weights) {
    const lift = heat(weights).map((v, i) => (even[i] ? v / even[i] : 0))
    const reach = Math.max(1, Math.log2(Math.max(...lift)))
    const context = canvas.getContext("2d")
    const pixels = context.createImageData(COLUMNS, rows)
    lift.forEach((value, i) => {
      const log = Math.log2(Math.max(value, 1e-3)), t = Math.min(1, Math.max(0, log / reach))
      const [a, b] = t < 0.5 ? [RAMP[0], RAMP[1]] : [RAMP[1], RAMP[2]], f = t < 0.5 ? 2 * t : 2 * t - 1
      for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = log > 0 ? a[c] + f * (b[c] - a[c]) : 15
      pixels.data[4 * i + 3] = log > 0 ? 255 * 0.62 * t ** 0.7 : 255 * Math.min(0.62, -0.5 * log)
    })
    context.putImageData(pixels, 0, 0)
    most.textContent = `even share … ${(2 ** reach).toFixed(1)}× the even share`
  }

  function outline(i, colour, thick, opacity, dash) {
    const [x1, y1, x2, y2] = data.boxes[i]
    for (const [stroke, extra] of [["#000", 2], [colour, 0]]) {
      const rect = document.createElementNS(SVG, "rect")
      const values = { x: x1, y: y1, width: x2 - x1, height: y2 - y1, stroke, "stroke-width": thick + extra, "stroke-opacity": extra ? opacity / 2 : opacity }
      if (dash && !extra) values["stroke-dasharray"] = dash
      for (const [name, value] of Object.entries(values)) rect.setAttribute(name, value)
      svg.append(rect)
    }
  }

  // A label in the first corner of its box, or the middle, where no other label lies.
  function label(i, text, taken, css = "") {
    const [x1, y1, x2, y2] = data.boxes[i]
    const scale = (stage.clientWidth || 500) / width, w = (10 + 7 * text.length) / scale, h = 20 / scale, gap = 4 / scale
    const spots = [[x1 + gap, y1 + gap], [x2 - w - gap, y1 + gap], [x1 + gap, y2 - h - gap], [x2 - w - gap, y2 - h - gap],
      [(x1 + x2 - w) / 2, y1 + gap], [(x1 + x2 - w) / 2, (y1 + y2 - h) / 2], [(x1 + x2 - w) / 2, y2 - h - gap]]
    const free = spots.find(([x, y]) => taken.every(([u, v, uw]) => x + w < u || u + uw < x || y + h < v || v + h < y)) ?? spots[0]
    const [x, y] = [Math.max(0, Math.min(free[0], width - w)), Math.max(0, free[1])]
    taken.push([x, y, w])
    tags.append(make("span", { class: css, style: `left: ${(100 * x) / width}%; top: ${(100 * y) / height}%` }, text))
  }

  function drawBoxes(weights) {
    svg.replaceChildren()
    tags.replaceChildren()
    const taken = [], top = ranked(weights, 5).filter((i) => weights[i] > 1.1 / N), reach = Math.max(...weights)
    const named = (i, text) => (data.labels[i] ? `${data.labels[i]} ${text}` : text)
    const marked = mode() === "groups" && attribute === null && pinnedAttribute === null ? query() : (hovered ?? pinned)
    for (const i of [...top].reverse()) if (i !== marked) outline(i, "#fff", 1 + 3 * (weights[i] / reach), 0.4 + 0.6 * (weights[i] / reach))
    if (marked !== null) {
      outline(marked, "#56b4e9", 4, 1, hovered === null ? "" : "8 5")
      label(marked, named(marked, percent(weights[marked])), taken, "query")
    }
    for (const i of top) if (i !== marked) label(i, named(i, percent(weights[i])), taken)
    ;[...minis.children].forEach((b, i) => {
      b.setAttribute("aria-pressed", i === marked)
      b.style.setProperty("--share", `${(100 * weights[i]) / reach}%`)
    })
  }

  function row(name, weight, reach, last, css = "", picture = null) {
    const value = make("data", last == null ? {} : { class: last > 0.1 ? "falls" : "" }, last === undefined ? "" : signed(last))
    const cells = [make("b", { title: name }, name), make("i", { style: `--share: ${(100 * weight) / reach}%` }), make("data", {}, percent(weight)), value]
    return make("div", { class: `row ${picture ? "region" : "bare"} ${css}` }, ...(picture ? [make("div", {}, picture)] : []), ...cells)
  }
  const regionRows = (weights, falls) => ranked(weights, 6).map((i) =>
    row(`${i + 1} ${data.names[i]}`, weights[i], Math.max(...weights), falls ? falls[i] : undefined, "", crop(i, 34)))
  const heading = (text, note = "") => make("h4", {}, text, make("em", {}, note))

  function drawWordPanel(weights) {
    const read = pooled(data.read, memory.head, step), p = Math.exp(data.log_probabilities[step])
    const falls = data.region_falls[step], attributeFalls = data.attribute_falls[step]
    const rho = data.agreement[memory.head][step] ?? [null, null]
    const likely = data.alternatives[step], chances = data.alternative_log_probabilities[step].map(Math.exp)
    const title = `“${data.words[step]}”`
    const correlation = (value, what) => `${value === null ? "unknown" : signed(value)} over ${what}`
    panel.replaceChildren(
      make("h3", {}, title),
      make("p", {}, `probability ${percent(p)}, log p ${signed(data.log_probabilities[step])}; whole caption log p ${signed(data.total)}`),
      heading(look() === "coarse" ? "Groups it drew on first" : "Regions it looked at", falls ? "attention | fall without" : "attention"),
      ...regionRows(weights, falls),
      heading("Attributes it looked at", attributeFalls ? "attention | fall without" : "attention"),
      ...ranked(read, 8).map((m) => row(data.attributes[m], read[m], Math.max(...read), attributeFalls ? attributeFalls[m] : undefined)),
      ...(falls ? [make("p", { class: "note" },
        `Fall: how far the word’s log p drops when that region or attribute is taken away. Attention is not explanation: its rank correlation with the fall is ${correlation(rho[0], "regions")}, ${correlation(rho[1], "attributes")}.`)] : []),
      heading("What it might have said here", "probability"),
      ...likely.map((word, i) => row(word, chances[i], chances[0], undefined, word === data.words[step] ? "now" : "")))
  }

  function drawGroupPanel(weights) {
    const region = query(), seen = data.seen.map((line) => line[region])
    panel.replaceChildren(
      make("h3", {}, `Region ${region + 1}`), make("p", {}, data.names[region]),
      heading("Its learned group", "share"), ...regionRows(weights),
      make("p", { class: "note" }, "Region distilling, GLIED Eq. (9): the regions this one is enriched with before any word is said. Shares sum to 100 %."),
      heading("Attributes seen in this region", "probability here"),
      ...ranked(seen, 8).map((m) => row(data.attributes[m], seen[m], Math.max(...seen, 1e-6))))
  }

  function drawReadout(weights) {
    const region = hovered ?? pinned, seen = attribute ?? pinnedAttribute
    const about = seen !== null ? `“${data.attributes[seen]}” was detected here` : mode() === "groups" ? `in the group of region ${query() + 1}` : `of the attention of “${data.words[step]}”`
    if (region === null) {
      readout.textContent = seen !== null ? `Where “${data.attributes[seen]}” was detected.`
        : mode() === "groups" ? "Hover over the photograph to see the group of each region."
        : `Where the model looked for “${data.words[step]}”${look() === "coarse" ? ", by groups" : ""}. Warm: more than an even share.`
      return
    }
    const fall = seen === null && mode() === "word" ? data.region_falls[step]?.[region] : null
    readout.textContent = `Region ${region + 1} (${data.names[region]}): ${percent(weights[region])} ${about}, ${(weights[region] * N).toFixed(1)}× the even share.`
      + (fall == null ? "" : ` Without it the word’s log p ${fall < 0 ? "rises" : "falls"} by ${Math.abs(fall).toFixed(2)}.`)
  }

  function drawWords() {
    words.replaceChildren(...data.words.map((word, t) => {
      const p = Math.exp(data.log_probabilities[t])
      const button = make("button", { "aria-pressed": t === step, "aria-label": `${word}, probability ${percent(p)}${data.differs?.[t] ? ", differs" : ""}`, click: () => { stop(); choose(t) } },
        make("span", { class: data.differs?.[t] ? "differs" : "" }, word),
        make("small", {}, make("i", { style: `background: rgba(11, 132, 132, ${p.toFixed(2)})` }), percent(p)))
      return button
    }))
  }

  function draw() {
    const weights = shown()
    ;[...words.children].forEach((b, t) => b.setAttribute("aria-pressed", t === step && mode() === "word"))
    slider.value = step
    place.textContent = `${step + 1} of ${data.words.length}`
    heads.value = memory.head
    itself.checked = !memory.itself
    modeTabs.update()
    lookTabs.update()
    itselfLabel.style.display = mode() === "groups" ? "" : "none"
    lookTabs.style.display = mode() === "word" ? "" : "none"
    ;[...chips.children].forEach((b, i) => b.setAttribute("aria-pressed", i === pinnedAttribute))
    drawHeat(weights)
    drawBoxes(weights)
    drawReadout(weights)
    if (mode() === "groups") drawGroupPanel(groupOf(query()))
    else drawWordPanel(regionWeights())
  }

  // ---- what a person does
  const commit = () => board.send("choice", { trace: data.digest, step, head: memory.head })
  const tell = (detail) => window.dispatchEvent(new CustomEvent("glied:board", { detail: { from: data.digest, ...detail } }))

  function choose(t, done = true) {
    memory.mode = "word"
    memory.steps[data.digest] = step = t
    draw()
    tell({ step })
    if (done) commit()
  }
  function toggle() {
    if (timer) return stop()
    timer = setInterval(() => choose((step + 1) % data.words.length, false), 1100)
    play.textContent = "❚❚"
    play.setAttribute("aria-label", "Pause")
  }
  function stop() {
    if (!timer) return
    clearInterval(timer)
    timer = null
    commit() // while it plays, the page's tables stay
    play.textContent = "▶"
    play.setAttribute("aria-label", "Play the caption")
  }

  // Regions under a point, smallest first; among equals the one whose centre is nearest.
  function under(x, y) {
    const distance = (i) => Math.hypot((data.boxes[i][0] + data.boxes[i][2]) / 2 - x, (data.boxes[i][1] + data.boxes[i][3]) / 2 - y)
    const size = (i) => Math.round((areas[i] / (width * height)) * 200)
    return [...data.boxes.keys()].filter((i) => data.boxes[i][0] <= x && x <= data.boxes[i][2] && data.boxes[i][1] <= y && y <= data.boxes[i][3])
      .sort((a, b) => size(a) - size(b) || distance(a) - distance(b))
  }
  function position(event) {
    const frame = stage.getBoundingClientRect()
    return under(((event.clientX - frame.left) / frame.width) * width, ((event.clientY - frame.top) / frame.height) * height)
  }
  function point(region, told = false) {
    if (region === hovered) return
    hovered = region
    if (mode() === "groups") draw()
    else {
      const weights = shown()
      drawBoxes(weights)
      drawReadout(weights)
    }
    if (!told) tell({ region })
  }
  function hover(event) {
    if (event.pointerType !== "touch") point(position(event)[0] ?? null)
  }
  function pin(event) {
    const found = position(event)
    const next = found[found.indexOf(pinned) + 1] ?? null // again on the same spot: the next larger, at last none
    pinned = next
    hovered = null
    draw()
  }
  function press(event) {
    const from = hovered ?? pinned ?? query()
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key]
    if (move) point(neighbour(from, ...move))
    else if (event.key === "+" || event.key === "-") point(sized(from, event.key === "+"))
    else if (event.key === "Enter") { pinned = pinned === from ? null : from; hovered = null; draw() }
    else if (event.key === "Escape") { pinned = hovered = pinnedAttribute = null; draw() }
    else return
    event.preventDefault()
  }
  const centre = (i) => [(data.boxes[i][0] + data.boxes[i][2]) / 2, (data.boxes[i][1] + data.boxes[i][3]) / 2]
  // The next region that way: near, straight ahead and of like size.
  function neighbour(from, dx, dy) {
    const [x, y] = centre(from)
    let best = from, least = Infinity
    for (const i of data.boxes.keys()) {
      const [u, v] = centre(i), ahead = (u - x) * dx + (v - y) * dy, aside = Math.abs((u - x) * dy) + Math.abs((v - y) * dx)
      const cost = ahead + 2 * aside + (width + height) * Math.abs(Math.log(areas[i] / areas[from]))
      if (ahead > 1 && cost < least) [best, least] = [i, cost]
    }
    return best
  }
  // The next larger or smaller region around the same place.
  function sized(from, larger) {
    const [x, y] = centre(from), found = under(x, y)
    return found[found.indexOf(from) + (larger ? 1 : -1)] ?? from
  }

  // The board beside this one moves along.
  function listen({ detail }) {
    if (detail.from !== data.partner) return
    if ("region" in detail) point(detail.region, true)
    if ("head" in detail) draw()
    const t = "step" in detail ? data.pairs.indexOf(detail.step) : -1
    if (t >= 0 && t !== step) {
      memory.steps[data.digest] = step = t
      draw()
    }
  }
  window.addEventListener("glied:board", listen)

  board.drawn = drawn
  board.send = setStateValue
  board.leave = () => {
    clearInterval(timer)
    window.removeEventListener("glied:board", listen)
  }
  parentElement.append(board)
  drawWords()
  draw()
  if (remembered && !data.partner) commit() // the page draws its tables for the word that this tab remembers
  return board.leave
}
