// The tree of a search. Hovering never sends anything; only "decode on" and a chosen alternative do, once.

const END = "<eos>"
const ROW = 32,
  TOP = 28,
  GAP = 46,
  EDGE = 26, // pixels: of a line, above the first, between columns, before the first
  LANE = 22, // above each group
  SQUARE = 9 // of a required word
const REST = 150 // milliseconds that a word must stay in view before the page follows

const said = (word) => (word === END ? "(end)" : word)

export default function ({ data: sent, parentElement, setTriggerValue }) {
  const old = parentElement.querySelector(".beam")
  const made = sent.tree + sent.alt + sent.start.count
  if (old?.drawn === made) {
    old.send = setTriggerValue
    old.renew(sent)
    return old.leave
  }
  old?.leave()
  old?.remove()

  let data = sent
  const live = () => data.live !== false // a saved notebook has no captioner that could decode on
  const nodes = data.nodes.map(([parent, step, word, total, own, status, outlook, group, taken, met, drawn], id) => ({
    id,
    parent,
    step,
    word,
    total,
    p: Math.exp(own),
    own,
    status,
    outlook,
    group,
    taken,
    met,
    drawn,
    best: data.best.includes(id),
  }))
  const steps = 1 + Math.max(...nodes.map((n) => n.step))
  const winner = nodes[data.best.at(-1)]
  const path = (node) => (node ? [...path(nodes[node.parent]), node] : [])
  const sentence = (words) => (words.length ? `“${words.map(said).join(" ")}”` : "the start")
  const before = (node) => path(nodes[node.parent]).map((n) => n.word)
  const sampled = { kept: "drawn", finished: "drawn", dropped: "not drawn" }
  const fate = (node) => (node.step < data.forced ? "forced" : data.samples ? sampled[node.status] : node.status)
  const drawn = (node) => (node.drawn ? ` by ${node.drawn} of ${data.samples} samples` : "")
  const lanes = data.groups > 1
  // facts of a word beside its fate: group, words that must come, words of earlier groups
  const steered = (node) =>
    [
      lanes ? `group ${node.group + 1}` : "",
      data.require.length ? `${node.met.length} of ${data.require.length} required words have come` : "",
      node.taken
        ? `${node.taken} in earlier groups took it at this step: ${signed(-node.taken * data.diversity)} in choosing`
        : "",
    ]
      .filter(Boolean)
      .map((text) => `, ${text}`)
      .join("")

  // ---- what is in view
  begin(data.start)
  let step = steps - 1
  let resting = nodes[data.start.node] // shown while nothing is pointed at
  let roving = resting // the one in the tab order
  let pointed = null
  let pinned = data.start.pinned ? resting : null
  let seen = null // drawn below the tree
  let timer = null
  let frame = null
  let sending = null
  const inView = () => pointed ?? pinned ?? resting
  // The likeliest that was kept leads; at the last step the caption has won.
  const likelier = (a, b) => (a && a.total >= b.total ? a : b)
  const leader = (s) =>
    (s < steps - 1 && nodes.filter((n) => n.step === s && n.status === "kept").reduce(likelier, null)) || winner

  // ---- where each word stands: a column for each step, group below group, children in the order of their parents so
  // that no edges cross, the caption that won along the top
  const most = Array.from({ length: data.groups }, (_, g) =>
    Math.max(...Array.from({ length: steps }, (_, s) => nodes.filter((n) => n.group === g && n.step === s).length)),
  )
  const tops = most.map((_, g) => most.slice(0, g).reduce((y, rows) => y + rows * ROW + LANE, TOP + (lanes ? LANE : 0)))
  const pen = document.createElement("canvas").getContext("2d")
  const family = getComputedStyle(parentElement.host ?? parentElement).getPropertyValue("--st-font") || "sans-serif"
  const wide = (text, font) => ((pen.font = `${font} ${family}`), pen.measureText(text).width)
  let x = EDGE
  const columns = [] // where the words of each step lie, from left to right
  for (let s = 0; s < steps; s++) {
    const column = nodes.filter((n) => n.step === s)
    column.sort(
      (a, b) =>
        a.group - b.group ||
        (nodes[a.parent]?.row ?? 0) - (nodes[b.parent]?.row ?? 0) ||
        b.best - a.best ||
        b.total - a.total,
    )
    column.forEach((n, row) => {
      n.row = row
      n.x = x
      n.y = tops[n.group] + ROW * (row - column.findIndex((other) => other.group === n.group))
      n.squares = Math.ceil(wide(said(n.word), "600 14px") + wide(percent(n.p), "11px")) + 20
      n.wide = n.squares + 4 + SQUARE * data.require.length + (n.status === "finished" ? 12 : 0)
    })
    columns.push([x, x + Math.max(...column.map((n) => n.wide))])
    x = columns[s][1] + GAP
  }
  const tall = 8 + tops.at(-1) + ROW * most.at(-1)

  // ---- elements: the tree
  const edges = vector(
    "g",
    { "aria-hidden": "true" },
    ...tops.flatMap((y, g) => [
      vector("circle", { cx: 8, cy: y + 13, r: 5, class: "start" }),
      ...(g ? [vector("path", { d: `M0 ${y - LANE - 2}H${x}`, class: "between" })] : []),
      ...(lanes ? [vector("text", { x: 4, y: y - 6, class: "lane" }, `Group ${g + 1}`)] : []),
    ]),
  )
  const items = nodes.map((n) => {
    const from = nodes[n.parent],
      x0 = from ? from.x + from.wide : 13,
      y0 = (from ? from.y : tops[n.group]) + 13,
      y1 = n.y + 13
    const bend = (n.x - x0) / 2
    n.edge = vector("path", {
      d: `M${x0} ${y0}C${x0 + bend} ${y0} ${n.x - bend} ${y1} ${n.x} ${y1}`,
      "stroke-width": (1 + 5 * n.p).toFixed(2),
    })
    edges.append(n.edge)
    n.item = vector(
      "g",
      {
        transform: `translate(${n.x} ${n.y})`,
        role: "treeitem",
        tabindex: -1,
        "aria-level": n.step + 1,
        "aria-label": `${said(n.word)}, probability ${percent(n.p)} after ${sentence(before(n))}, ${fate(n)}${drawn(n)}${steered(n)}${n.best ? ", in the caption" : ""}`,
      },
      vector("rect", { width: n.wide, height: 26, rx: 6 }),
      vector("text", { x: 8, y: 18 }, said(n.word), vector("tspan", { dx: 6, class: "p" }, percent(n.p))),
    )
    for (const i of data.require.keys())
      n.item.append(
        vector("rect", {
          x: n.squares + SQUARE * i,
          y: 10,
          width: SQUARE - 2,
          height: SQUARE - 2,
          class: n.met.includes(i) ? "met" : "unmet",
        }),
      )
    if (n.status === "finished") n.item.append(vector("circle", { cx: n.wide - 10, cy: 13, r: 4.5, class: "flag" }))
    if (fate(n) === "forced") n.item.append(vector("path", { d: `M7 22H${n.wide - 7}`, class: "forced" }))
    for (const [name, act] of Object.entries({
      pointerenter: () => point(n),
      pointerleave: () => point(null),
      focus: () => {
        point(n)
        reach(n)
      },
      blur: () => point(null),
      click: () => pin(n),
    }))
      n.item.addEventListener(name, act)
    return n.item
  })
  const numbers = columns.map(([left, right], s) =>
    vector("text", { x: (left + right) / 2, y: 16, class: "number", "aria-hidden": "true" }, s + 1),
  )
  const svg = vector(
    "svg",
    {
      width: x,
      height: tall,
      role: "tree",
      "aria-label": `Tree of ${data.title.toLowerCase()}: arrow keys move, Enter pins, Escape unpins`,
    },
    ...numbers,
    edges,
    ...items,
  )
  svg.addEventListener("keydown", press)
  const scroller = make("div", { class: "scroller", scroll: hint }, svg)
  const later = make("button", {
    class: "later",
    click: () => scroller.scrollBy({ left: 0.8 * scroller.clientWidth, behavior: glide() }),
  })
  const shelf = make("div", { class: "shelf" }, scroller, later)

  // ---- elements: the controls
  const play = make("button", { class: "round", "aria-label": "Play the search", title: "Play", click: toggle }, "▶")
  const slider = make("input", {
    type: "range",
    min: 0,
    max: steps - 1,
    "aria-label": "Step of the search",
    input: () => {
      stop()
      go(+slider.value)
    },
  })
  const place = make("span", { class: "place" })
  const sample = (css, name) => make("span", {}, make("i", { class: css, "aria-hidden": "true" }), name)
  const key = make(
    "div",
    { class: "key" },
    sample("leads", "leads"),
    sample("kept", data.samples ? "drawn" : "kept"),
    sample("dropped", data.samples ? "could have been drawn" : "dropped"),
    sample("finished", "finished"),
    ...(data.require.length
      ? [sample("met", `required word has come (${data.require.join(", ")})`), sample("unmet", "not yet")]
      : []),
    ...(data.forced ? [sample("forced", "forced")] : []),
    make("span", {}, "Thicker line: likelier word"),
  )
  const controls = make("div", { class: "controls" }, make("div", {}, play, slider), displaySettings(), key, place)

  // ---- elements: what the word in view was chosen from
  const picture = (title) => {
    const view = photograph(data, {
      style: `max-width: calc(min(100%, ${Math.round((340 * data.size[0]) / data.size[1])}px))`,
    })
    return { ...view, figure: make("figure", {}, make("figcaption", {}, title), view.stage, view.legend) }
  }
  const cite = (text, name) => text + (data.cited[name] && `, ${data.cited[name]}`)
  const global = data.coarse && picture(cite("Groups first", "coarse"))
  const local = picture(cite(data.coarse ? "Regions revisited" : "Regions", "fine"))
  const title = make("h2"),
    facts = make("p"),
    deed = make("div", { class: "deed" })
  const change = make("p", { class: "change" })
  const lists = make("div", { class: "lists" })
  const detail = make(
    "section",
    { class: data.coarse ? "detail" : "detail base", "aria-label": "The word in view" },
    make("div", { class: "about" }, title, facts, deed),
    make("div", { class: "pictures" }, ...(global ? [global.figure] : []), local.figure),
    change,
    lists,
  )
  const beam = make(
    "div",
    { class: "beam" },
    controls,
    shelf,
    make(
      "p",
      { class: "note keys" },
      "Hover over a word, or go to it with the arrow keys, to see what it was chosen from. Click or Enter pins it, Esc unpins.",
    ),
    detail,
  )

  // ---- drawing
  function drawTree() {
    const front = leader(step),
      lead = new Set(path(front)),
      shown = inView()
    for (const n of nodes) {
      const css = `${lead.has(n) ? "lead" : n.status}${n === shown ? " shown" : ""}${n === pinned ? " pinned" : ""}`
      n.item.setAttribute("class", css)
      n.edge.setAttribute("class", css)
      n.item.style.display = n.edge.style.display = n.step > step ? "none" : ""
      n.item.setAttribute("aria-selected", n === pinned)
      n.item.setAttribute("tabindex", n === roving ? 0 : -1)
    }
    const ended = nodes.filter((n) => n.status === "finished" && n.step <= step).length
    slider.value = step
    slider.setAttribute("aria-valuetext", `step ${step + 1} of ${steps}`)
    place.replaceChildren(
      `Step ${step + 1} of ${steps}, ${ended} finished. ${step === steps - 1 ? "The caption" : "Leading"}: `,
      make(
        "b",
        {},
        path(front)
          .map((n) => n.word)
          .filter((word) => word !== END)
          .join(" "),
      ),
      `, log p ${signed(front.total)}`,
    )
  }

  const bar = (weight, most) => make("i", { style: `--share: ${(100 * weight) / most}%` })
  const fall = (value) => make("data", { class: value > 0.1 ? "falls" : "" }, signed(value, 3))
  const points = (v) => (Math.abs(v) < 0.0005 ? "0.0" : (v < 0 ? "−" : "+") + Math.abs(100 * v).toFixed(1))
  const list = (css, ...rows) => make("div", { class: `list ${css}` }, ...rows)

  function drawRegions(node) {
    if (!data.fine) return ""
    const fine = data.fine[node.outlook],
      coarse = data.coarse?.[node.outlook],
      falls = node.best ? data.region_falls[node.step] : null
    const top = ranked(fine, 6)
    return list(
      coarse ? "regions revisited" : "regions",
      heading("Regions it looked at", (coarse ? "attention | change | " : "attention | ") + "fall"),
      ...top.map((i) =>
        make(
          "div",
          { class: "row" },
          local.crop(i, 30),
          make("b", {}, `${i + 1} ${data.names[i]}`),
          bar(fine[i], fine[top[0]]),
          make("data", {}, percent(fine[i])),
          ...(coarse ? [make("data", {}, points(fine[i] - coarse[i]))] : []),
          fall(falls?.[i]),
        ),
      ),
    )
  }

  function drawAttributes(node) {
    if (!data.read) return ""
    const read = data.read[node.outlook],
      falls = node.best ? data.attribute_falls[node.step] : null,
      top = ranked(read, 8)
    return list(
      "attributes",
      heading("Attributes it looked at", "attention | fall"),
      ...top.map((m) =>
        make(
          "div",
          { class: "row" },
          make("b", {}, data.attributes[m]),
          bar(read[m], read[top[0]]),
          make("data", {}, percent(read[m])),
          fall(falls?.[m]),
        ),
      ),
    )
  }

  function drawAlternatives(node) {
    const words = data.alternatives[node.outlook],
      chances = data.alternative_log_probabilities[node.outlook].map(Math.exp)
    const beside = nodes.filter((n) => n.parent === node.parent && n.group === node.group)
    const weighed = Object.fromEntries(beside.map((n) => [n.word, n]))
    return list(
      "alternatives",
      heading(`After ${sentence(before(node))}`, "probability"),
      ...words.map((word, i) => {
        const cells = [
          make("b", {}, said(word)),
          bar(chances[i], chances[0]),
          make("data", {}, percent(chances[i])),
          make("small", { class: weighed[word]?.status ?? "" }, weighed[word] ? fate(weighed[word]) : ""),
        ]
        const css = `row${word === node.word ? " now" : ""}`
        if (word === END || !live()) return make("div", { class: css }, ...cells)
        return make(
          "button",
          { class: css, title: `Set “${word}” here and decode on`, click: () => force([...before(node), word]) },
          ...cells,
        )
      }),
      ...(live() ? [make("p", { class: "note" }, "Choose a word to set it here and decode on.")] : []),
    )
  }

  function drawDetail() {
    const node = (seen = inView()),
      row = node.outlook,
      following = sentence(before(node))
    const [moved, gained, lost] = data.revisits?.[row] ?? [0, null, null]
    global?.paint(data.coarse[row], { marked: lost })
    local.paint(data.fine?.[row] ?? null, { marked: gained })
    title.textContent = `“${said(node.word)}”`
    facts.textContent = `${fate(node)}${drawn(node)}, probability ${percent(node.p)} after ${following}; log p so far ${signed(node.total)}${steered(node)}`
    deed.replaceChildren(
      ...(node !== pinned || !live()
        ? []
        : node.word === END
          ? [make("span", { class: "note" }, "Nothing follows the end.")]
          : [make("button", { class: "go", click: () => force([...before(node), node.word]) }, "Decode on from here")]),
    )
    const by = (i) => `region ${i + 1} (${data.names[i]}, ${points(data.fine[row][i] - data.coarse[row][i])} points)`
    change.replaceChildren(
      ...(data.revisits
        ? [
            make("b", {}, `The revisit moved ${percent(moved)} of the attention`),
            `: ${by(gained)} gained most, ${by(lost)} lost most; both in blue. `,
          ]
        : []),
      make(
        "span",
        { class: "note" },
        `Attention comes before the word is chosen: whatever follows ${following} shares these pictures. ${headNames(data.head)[data.head]}. ` +
          (node.best
            ? "Fall: how far the word’s log p falls without that region or attribute; attention is not explanation."
            : "The fall of log p without a region or attribute is measured for the words of the caption only."),
      ),
    )
    lists.replaceChildren(drawRegions(node), drawAttributes(node), drawAlternatives(node))
  }

  // ---- what a person does
  // From word to word the pointer leaves one and enters the next: drawn once, with the next frame.
  function point(node) {
    pointed = node
    frame ??= requestAnimationFrame(() => {
      frame = null
      if (inView() === seen) return
      seen.item.classList.remove("shown")
      inView().item.classList.add("shown")
      drawDetail()
    })
  }
  function pin(node) {
    stop()
    pinned = pinned === node ? null : node
    roving = node
    resting = node
    drawTree()
    drawDetail()
    tell()
  }
  function go(s) {
    step = s
    resting = leader(s)
    pinned = null
    roving = resting
    drawTree()
    drawDetail()
    reach(resting)
    if (!timer) tell()
  }
  // The page follows: its address names the word, and Export has its pictures.
  function tell() {
    if (resting.best) memory.steps[data.trace] = resting.step // what Explore shows next
    clearTimeout(sending)
    sending = setTimeout(() => beam.send("choice", { node: resting.id, pinned: pinned !== null }), REST)
  }
  const glide = () => (matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth")
  // Says at the right edge which steps lie beyond it.
  function hint() {
    const edge = scroller.scrollLeft + scroller.clientWidth
    const cut = columns.findIndex(([, right]) => right > edge)
    later.hidden = cut < 0
    later.textContent = `${cut + 1 < steps ? `steps ${cut + 1} to ${steps}` : `step ${steps}`} →`
  }
  // Scrolls the tree, and nothing but the tree, until a word is in view.
  function reach(node) {
    const left = node.x - EDGE,
      right = node.x + node.wide + EDGE
    if (left < scroller.scrollLeft || right > scroller.scrollLeft + scroller.clientWidth)
      scroller.scrollTo({
        left: left - scroller.clientWidth / 3,
        behavior: glide(),
      })
  }
  function press(event) {
    const here = nodes.find((n) => n.item === event.target)
    if (!here) return
    const way = { ArrowUp: -1, ArrowDown: 1 }[event.key]
    const next = way
      ? nodes.find((n) => n.step === here.step && n.row === here.row + way)
      : event.key === "ArrowLeft"
        ? nodes[here.parent]
        : event.key === "ArrowRight" && here.step < step
          ? nodes.filter((n) => n.parent === here.id).sort((a, b) => a.row - b.row)[0]
          : null
    if (event.key.startsWith("Arrow")) {
      if (next) {
        here.item.setAttribute("tabindex", -1)
        roving = next
        next.item.setAttribute("tabindex", 0)
        next.item.focus()
      }
    } else if (event.key === "Enter" || event.key === " ") pin(here)
    else if (event.key === "Escape") {
      pinned = null
      drawTree()
      drawDetail()
      tell()
    } else return
    event.preventDefault()
  }
  function toggle() {
    if (timer) {
      stop()
      return tell()
    }
    go(step === steps - 1 ? 0 : step + 1)
    timer = setInterval(() => {
      go(step + 1)
      if (step < steps - 1) return
      stop()
      tell()
    }, 1100)
    play.textContent = "❚❚"
    play.setAttribute("aria-label", "Pause")
  }
  function stop() {
    clearInterval(timer)
    timer = null
    play.textContent = "▶"
    play.setAttribute("aria-label", "Play the search")
  }
  function force(prefix) {
    stop()
    beam.send("forced", { prefix })
  }

  beam.drawn = made
  beam.send = setTriggerValue
  // The same tree, seen by another head, or now with a captioner.
  beam.renew = (next) => {
    if (next.digest === data.digest && next.live === data.live) return
    data = next
    drawDetail()
  }
  const resized = new ResizeObserver(hint)
  beam.leave = () => {
    stop()
    clearTimeout(sending)
    cancelAnimationFrame(frame)
    resized.disconnect()
  }
  parentElement.append(beam)
  drawTree()
  drawDetail()
  resized.observe(scroller)
  requestAnimationFrame(() => reach(inView()))
  return beam.leave
}
