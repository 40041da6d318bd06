// Two captions, what is said of them, and their words on the photographs. A word, region or head that is chosen on one
// side is followed on the other. Hovering sends nothing; a choice is sent once, when it is made.

export default function ({ data, parentElement, setStateValue }) {
  const old = parentElement.querySelector(".pair")
  if (old?.drawn === data.drawn) {
    old.send = setStateValue
    old.say(data.sentences)
    return
  }
  old?.remove()

  const traces = JSON.parse(data.traces)
  const same = data.photos.length === 1
  const heads = Math.max(...traces.map((trace) => trace.heads))
  let head = Math.min(data.head, heads)
  let hovered = [null, null] // region of each side
  let attribute = null // hovered chip: side and place

  const first = Math.min(data.step, traces[0].words.length - 1)
  const steps = [first, traces[0].pairs[first]]
  if (steps[1] < 0) steps[1] = Math.min(first, traces[1].words.length - 1)

  // ---- elements
  const sides = traces.map((trace, at) => side(trace, at))
  function side(trace, at) {
    const {
      stage,
      legend,
      crop,
      at: under,
      visit,
      paint,
      paintBoxes,
    } = photograph(
      { ...trace, photo: data.photos[at] ?? data.photos[0], alt: data.alts[at] },
      {
        tabindex: 0,
        role: "application",
        "aria-label": `${data.titles[at]}: ${data.alts[at]}. ${trace.boxes.length} regions: arrow keys move, plus and minus change the size, Escape clears.`,
        style: `max-width: calc(min(100%, ${Math.round((430 * trace.size[0]) / trace.size[1])}px))`,
        pointermove: (event) => event.pointerType !== "touch" && point(at, under(event)[0] ?? null),
        click: (event) => point(at, under(event)[0] ?? null),
        pointerleave: () => point(at, null),
        keydown: (event) => {
          const next = event.key === "Escape" ? null : visit(hovered[at] ?? ranked(weightsOf(at), 1)[0], event.key)
          if (next === undefined) return
          point(at, next)
          event.preventDefault()
        },
      },
    )
    const words = make(
      "div",
      { class: "words", role: "group", "aria-label": `The caption of ${data.titles[at]}, word by word` },
      ...trace.words.map((word, t) => {
        const p = Math.exp(trace.log_probabilities[t])
        return make(
          "button",
          {
            "aria-label": `${word}, probability ${percent(p)}${trace.differs[t] ? ", differs" : ""}`,
            click: () => choose(at, t),
          },
          make("span", { class: trace.differs[t] ? "differs" : "" }, word),
          make("small", {}, percent(p)),
        )
      }),
    )
    return {
      stage,
      legend,
      crop,
      paint,
      paintBoxes,
      words,
      readout: make("p", { class: "readout" }),
      panel: make("div", { class: "panel" }),
    }
  }
  const said = make("ul", { class: "said" })
  const select = make(
    "select",
    {
      "aria-label": "Attention head",
      change: () => {
        head = +select.value
        draw()
        commit(0)
      },
    },
    ...["Mean of heads", ...Array.from({ length: heads }, (_, i) => `Head ${i + 1}`)].map((name, i) =>
      make("option", { value: i }, name),
    ),
  )
  const two = (css, ...cells) => make("div", { class: `two ${css}` }, ...cells)
  const fold = (text, name, ...inside) => {
    const found = make("details", {}, make("summary", {}, text), ...inside)
    found.open = sessionStorage.getItem(name) === "open"
    found.addEventListener("toggle", () => sessionStorage.setItem(name, found.open ? "open" : ""))
    return found
  }
  const looked = fold("What both words looked at", "gliedPanels", two("", ...sides.map((s) => s.panel)))
  const chips = (trace, at) =>
    make(
      "div",
      { class: "chips", role: "group", "aria-label": same ? "Attributes" : `Attributes of ${data.titles[at]}` },
      ...trace.attributes.map((word, m) => {
        const enter = () => show([at, m]),
          leave = () => show(null)
        return make(
          "button",
          {
            style: `--score: ${Math.round(45 * trace.scores[m])}%`,
            title: `${word}: probability ${percent(trace.scores[m])}; hover to see where`,
            pointerenter: enter,
            pointerleave: leave,
            focus: enter,
            blur: leave,
          },
          word + " ",
          make("small", {}, trace.scores[m].toFixed(2)),
        )
      }),
    )
  const attributes = fold(
    same
      ? `The ${traces[0].attributes.length} likeliest attributes of the photograph, which both captioners read`
      : "The likeliest attributes of both photographs",
    "gliedAttributes",
    ...(same ? [chips(traces[0], 0)] : [two("", ...traces.map(chips))]),
  )
  const pair = make(
    "div",
    { class: "pair" },
    two("", ...sides.map((s, at) => make("section", {}, make("h2", {}, data.titles[at]), s.words))),
    said,
    make("div", { class: "controls" }, select, displaySettings()),
    two("", ...sides.map((s) => make("div", {}, s.stage, s.legend, s.readout))),
    looked,
    attributes,
  )

  // ---- drawing
  const headOf = (at) => Math.min(head, traces[at].heads)
  function weightsOf(at) {
    return pooled(traces[at].fine, headOf(at), steps[at])
  }
  function shown(at) {
    if (!attribute || !(same || attribute[0] === at)) return weightsOf(at)
    const seen = traces[at].seen[attribute[1]],
      sum = seen.reduce((a, b) => a + b, 0) || 1
    return seen.map((p) => p / sum)
  }
  function read(at) {
    const trace = traces[at],
      word = trace.words[steps[at]],
      region = hovered[at],
      weights = weightsOf(at)
    if (attribute && (same || attribute[0] === at)) return `Where “${trace.attributes[attribute[1]]}” was detected.`
    if (region === null)
      return `“${word}”, probability ${percent(Math.exp(trace.log_probabilities[steps[at]]))}. Coloured: more than an even share of its attention.`
    const fall = trace.region_falls[steps[at]]?.[region]
    return (
      `Region ${region + 1} (${trace.names[region]}): ${percent(weights[region])} of the attention of “${word}”, ${(weights[region] * weights.length).toFixed(1)}× the even share.` +
      (fall == null
        ? ""
        : ` Without it the word’s log p ${fall < 0 ? "rises" : "falls"} by ${Math.abs(fall).toFixed(3)}.`)
    )
  }
  function row(name, weight, reach, last, picture = null, css = "") {
    return make(
      "div",
      { class: `row ${picture ? "" : "bare"} ${css}` },
      ...(picture ? [make("div", {}, picture)] : []),
      make("b", { title: name }, name),
      make("i", { style: `--share: ${(100 * weight) / reach}%` }),
      make("data", {}, percent(weight)),
      make("data", {}, last === undefined ? "" : signed(last, 3)),
    )
  }
  function drawPanel(at) {
    const trace = traces[at],
      t = steps[at],
      weights = weightsOf(at),
      readings = trace.read && pooled(trace.read, headOf(at), t),
      chances = trace.alternative_log_probabilities[t].map(Math.exp)
    const heading = (text, note) => make("h3", {}, text, make("em", {}, note))
    const note = (falls) => (falls ? "attention | fall without" : "attention")
    const regionFalls = trace.region_falls[t],
      attributeFalls = trace.attribute_falls[t]
    sides[at].panel.replaceChildren(
      heading(`“${trace.words[t]}”: regions`, note(regionFalls)),
      ...ranked(weights, 4).map((i) =>
        row(`${i + 1} ${trace.names[i]}`, weights[i], Math.max(...weights), regionFalls?.[i], sides[at].crop(i, 34)),
      ),
      ...(readings
        ? [
            heading("Attributes", note(attributeFalls)),
            ...ranked(readings, 5).map((m) =>
              row(trace.attributes[m], readings[m], Math.max(...readings), attributeFalls?.[m]),
            ),
          ]
        : []),
      heading("What it might have said here", "probability"),
      ...trace.alternatives[t].map((word, i) =>
        row(word, chances[i], chances[0], undefined, null, word === trace.words[t] ? "now" : ""),
      ),
    )
  }
  function draw() {
    select.value = head
    sides.forEach((s, at) => {
      ;[...s.words.children].forEach((b, t) => b.setAttribute("aria-pressed", t === steps[at]))
      s.paint(shown(at), { marked: hovered[at], dashed: true })
      s.readout.textContent = read(at)
      drawPanel(at)
    })
  }

  // ---- what a person does
  let sending = null
  let changed = -Infinity
  // The first choice is sent at once, those that follow it fast only when they rest: the server draws the last alone.
  function commit(at) {
    const fast = performance.now() - changed < 400
    changed = performance.now()
    clearTimeout(sending)
    sending = setTimeout(
      () => pair.send("choice", { trace: traces[at].digest, step: steps[at], head, region: null }),
      fast ? 200 : 0,
    )
    const boards = window.gliedBoards // what Explore shows next
    if (boards) traces.forEach((trace, i) => (boards.steps[trace.digest] = steps[i]))
    if (boards) boards.head = head
  }
  function choose(at, t) {
    steps[at] = t
    const partner = traces[at].pairs[t]
    if (partner >= 0) steps[1 - at] = partner
    draw()
    commit(at)
  }
  function point(at, region) {
    const now = [null, null]
    now[at] = region
    if (same) now[1 - at] = region
    if (now[0] === hovered[0] && now[1] === hovered[1]) return
    hovered = now
    sides.forEach((s, i) => {
      s.paintBoxes(shown(i), { marked: hovered[i], dashed: true })
      s.readout.textContent = read(i)
    })
  }
  function show(chip) {
    attribute = chip
    draw()
  }

  pair.drawn = data.drawn
  pair.send = setStateValue
  pair.say = (sentences) =>
    said.replaceChildren(
      ...sentences.map((parts) =>
        make("li", {}, ...parts.map(([text, strong]) => (strong ? make("strong", {}, text) : text))),
      ),
    )
  pair.say(data.sentences)
  parentElement.append(pair)
  draw()
}
