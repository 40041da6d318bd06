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
  const { same } = data // regions, attributes: whether both captions are of the same ones
  const heads = Math.max(...traces.map((trace) => trace.heads))
  begin(data.start)
  let head = Math.min(data.start.head, heads)
  let hovered = [null, null] // region of each side
  let attribute = null // hovered chip: side and place

  const first = Math.min(data.start.step, traces[0].words.length - 1)
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
          const from = hovered[at] ?? ranked(weightsOf(at) ?? [0], 1)[0]
          const next = event.key === "Escape" ? null : visit(from, event.key)
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
      words: rove(words),
      readout: make("p", { class: "readout" }),
      panel: make("div", { class: "panel" }),
    }
  }
  const said = make("ul", { class: "said" })
  const select = headPicker(heads, (chosen) => {
    head = chosen
    draw()
    commit(0)
  })
  const two = (css, ...cells) => make("div", { class: `two ${css}` }, ...cells)
  const fold = (text, name, ...inside) => {
    const found = make("details", {}, make("summary", {}, text), ...inside)
    found.open = sessionStorage.getItem(name) === "open"
    found.addEventListener("toggle", () => sessionStorage.setItem(name, found.open ? "open" : ""))
    return found
  }
  const looked = fold("What both words looked at", "gliedPanels", two("", ...sides.map((s) => s.panel)))
  const chips = (trace, at) =>
    chipRow(same.attributes ? "Attributes" : `Attributes of ${data.titles[at]}`, trace.attributes, trace.scores, (m) =>
      visited(
        () => show([at, m]),
        () => show(null),
      ),
    )
  const readers = [0, 1].filter((at) => traces[at].reads)
  const who = { 0: "neither captioner reads", 1: `${data.titles[readers[0]]} alone reads`, 2: "both captioners read" }
  const attributes = fold(
    same.attributes
      ? `The ${traces[0].attributes.length} likeliest attributes of the photograph, which ${who[readers.length]}`
      : data.photos.length === 1
        ? "The likeliest attributes of the photograph on both sides"
        : "The likeliest attributes of both photographs",
    "gliedAttributes",
    ...(same.attributes ? [chips(traces[0], 0)] : [two("", ...traces.map(chips))]),
  )
  const pair = make(
    "div",
    { class: "pair" },
    two("", ...sides.map((s, at) => make("section", {}, make("h2", {}, data.titles[at]), s.words))),
    said,
    make("div", { class: "controls" }, select, displaySettings()),
    two("", ...sides.map((s, at) => make("div", {}, make("h3", {}, data.titles[at]), s.stage, s.legend, s.readout))),
    looked,
    ...(traces.some((trace) => trace.attributes.length) ? [attributes] : []),
  )

  // ---- drawing
  const headOf = (at) => Math.min(head, traces[at].heads)
  function weightsOf(at) {
    return pooled(traces[at].fine, headOf(at), steps[at])
  }
  function shown(at) {
    if (!attribute || !(same.attributes || attribute[0] === at)) return weightsOf(at)
    return asShares(traces[at].seen[attribute[1]])
  }
  function read(at) {
    const trace = traces[at],
      word = trace.words[steps[at]],
      region = hovered[at],
      weights = weightsOf(at)
    if (attribute && (same.attributes || attribute[0] === at))
      return `Where “${trace.attributes[attribute[1]]}” was detected.`
    if (region === null)
      return `“${word}”, probability ${percent(Math.exp(trace.log_probabilities[steps[at]]))}. ${weights ? "Coloured: more than an even share of its attention." : "It attends to no region."}`
    const fall = trace.region_falls[steps[at]]?.[region]
    const share = weights
      ? `: ${percent(weights[region])} of the attention of “${word}”, ${times(weights[region] * weights.length)} the even share.`
      : "."
    return `Region ${region + 1} (${trace.names[region]})${share}${fallTold(fall)}`
  }
  function drawPanel(at) {
    const trace = traces[at],
      t = steps[at],
      weights = weightsOf(at),
      readings = trace.read && pooled(trace.read, headOf(at), t),
      chances = trace.alternative_log_probabilities[t].map(Math.exp)
    const note = (falls) => (falls ? "attention | fall without" : "attention")
    const regionFalls = trace.region_falls[t],
      attributeFalls = trace.attribute_falls[t]
    sides[at].panel.replaceChildren(
      heading(
        `${data.titles[at]}, “${trace.words[t]}”: regions`,
        weights ? note(regionFalls) : regionFalls ? "fall without" : "",
      ),
      ...ranked(weights ?? regionFalls ?? [], 4).map((i) =>
        weightRow(
          `${i + 1} ${trace.names[i]}`,
          weights ? weights[i] : null,
          Math.max(...(weights ?? regionFalls), 1e-9),
          regionFalls?.[i],
          { picture: sides[at].crop(i, 34) },
        ),
      ),
      ...(readings
        ? [
            heading("Attributes", note(attributeFalls)),
            ...ranked(readings, 5).map((m) =>
              weightRow(trace.attributes[m], readings[m], Math.max(...readings), attributeFalls?.[m]),
            ),
          ]
        : []),
      heading("What it might have said here", "probability"),
      ...trace.alternatives[t]
        .slice(0, 5)
        .map((word, i) =>
          weightRow(word, chances[i], chances[0], undefined, { css: word === trace.words[t] ? "now" : "" }),
        ),
    )
  }
  function draw() {
    select.value = head
    sides.forEach((s, at) => {
      pressOnly(s.words, steps[at])
      s.paint(shown(at), { marked: hovered[at], dashed: true })
      s.readout.textContent = read(at)
      drawPanel(at)
    })
  }

  // ---- what a person does
  const send = paced((at) => pair.send("choice", { trace: traces[at].digest, step: steps[at], head, region: null }))
  function commit(at) {
    traces.forEach((trace, i) => (memory.steps[trace.digest] = steps[i]))
    memory.head = head
    send(at)
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
    if (same.regions) now[1 - at] = region
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
