// How a captioner works: a box for each attention function, from left to right in the order in which a word passes them,
// with the numbers of the word and head in view. Both change here, without the server, which gets them once they stay.

const TOP = 3 // rows of a box
const REST = 400 // milliseconds until a word or head is sent

export default function ({ data: sent, parentElement, setStateValue, setTriggerValue }) {
  const old = parentElement.querySelector(".flow")
  const drawn = sent.digest + sent.alt + sent.start.count
  if (old?.drawn === drawn) {
    old.send = setStateValue
    return old.leave
  }
  old?.leave()
  old?.remove()

  const data = { ...sent, ...JSON.parse(sent.trace) }
  const N = data.boxes.length
  const compact = data.compact
  if (!compact) begin(data.start)
  let { step, head } = data.start
  let box = data.box
  let pointed = null // the box under the pointer or the keyboard
  let timer = null

  // ---- numbers
  const byName = Object.fromEntries(data.about.map((each) => [each.name, each]))
  const rowOf = (name, row = step) => pooled(byName[name].weights, head, row)
  const regionFunctions = data.about.filter((each) => each.role && each.over === "regions" && each.role !== "grouping")
  const feeding = regionFunctions.at(-1)?.name // the one nearest to the word; undefined for some captioners
  // The region, or attribute, whose group is shown: the one that the word reads most.
  function reader(over) {
    const readers = data.about.filter((each) => each.over === over && ["global", "local"].includes(each.role))
    const by = readers.find((each) => each.role === "global") ?? readers[0]
    return by ? ranked(rowOf(by.name), 1)[0] : 0
  }
  const usuals = new Map()
  function usual(name) {
    const key = `${name} ${head}`
    if (!usuals.has(key)) {
      const rows = byName[name].weights[0].map((_, row) => rowOf(name, row))
      usuals.set(
        key,
        rows[0].map((_, i) => rows.reduce((sum, row) => sum + row[i] / rows.length, 0)),
      )
    }
    return usuals.get(key)
  }
  const nameOf = (over, i) => ({ regions: `${i + 1} ${data.names[i]}`, attributes: data.attributes[i] })[over]

  // What a box shows: a line above, rows { text, region, share, told }, a line below.
  function content({ name, over, role }) {
    if (name === "regions") return { rows: [], below: `${N}, found in the photograph` }
    if (name === "words")
      return {
        said: data.inputs[step],
        rows: [],
        below: step ? `word ${step} of the caption` : "before the first word",
      }
    if (name === "attributes") {
      const rows = ranked(data.scores, TOP).map((i) => ({ text: data.attributes[i], share: data.scores[i] }))
      return { rows, below: `${data.attributes.length}, with their probability` }
    }
    if (name === "next") {
      const likely = data.alternatives[step].map((text, i) => ({
        text,
        share: Math.exp(data.alternative_log_probabilities[step][i]),
        chosen: text === data.words[step],
      }))
      const said = { text: data.words[step], share: Math.exp(data.log_probabilities[step]), chosen: true }
      const rows = likely.slice(0, TOP)
      return { rows: rows.some((row) => row.chosen) ? rows : [...rows.slice(0, TOP - 1), said], below: "probability" }
    }
    if (role === "grouping") {
      const of = reader(over),
        shares = rowOf(name, of),
        common = usual(name)
      const rows = ranked(
        shares.map((share, i) => share - common[i]),
        TOP,
      ).map((i) => ({
        text: nameOf(over, i),
        region: over === "regions" ? i : null,
        share: shares[i],
        told: times(shares[i] / Math.max(common[i], 1e-9)),
      }))
      return { above: `of ${nameOf(over, of)}`, rows, below: "share, and times the usual" }
    }
    const all = rowOf(name)
    const weights = over === "words" ? all.slice(0, step + 1) : all
    const rows = ranked(weights, TOP).map((i) => ({
      text: over === "words" ? data.inputs[i] : nameOf(over, i),
      region: over === "regions" ? i : null,
      share: weights[i],
    }))
    return { rows, below: `even: ${percent(1 / weights.length)}` }
  }
  function weightsOn(name) {
    const { over, role } = byName[name] ?? {}
    if (!role || over !== "regions") return feeding ? rowOf(feeding) : null
    return rowOf(name, role === "grouping" ? reader(over) : step)
  }

  // ---- elements
  const words = make(
    "div",
    { class: "caption", role: "group", "aria-label": "The caption, word by word" },
    ...data.words.map((word, i) => make("button", { click: () => choose({ step: i }) }, word)),
  )
  rove(words)
  const heads = headPicker(data.heads, (chosen) => choose({ head: chosen }))
  const { stage, crop, paint } = photograph(data, {})
  const edges = document.createElementNS(SVG, "svg")
  edges.setAttribute("aria-hidden", "true")
  const lines = data.edges.map((edge) => {
    const line = document.createElementNS(SVG, "path")
    edges.append(line)
    return { ...edge, line }
  })
  const rows = ["regions", "words", "attributes"].filter((over) => data.about.some((each) => each.over === over))
  const titles = (names) => names.map((name) => byName[name].title).join(", ")
  const parts = data.about.map((about) => {
    const { name, title, column, over, role, cited } = about
    const from = (kind) => data.edges.filter((edge) => edge.target === name && edge.kind === kind).map((e) => e.source)
    const symbol = role ? [make("span", {}, "H", make("sub", {}, name)), cited && ` ${cited}`] : []
    const told = role
      ? `${from("query").length ? `Asked by: ${titles(from("query"))}. ` : ""}Attends to: ${titles(from("keys")) || "the words so far"}.`
      : ""
    const button = make("button", { value: name, click: () => open(name), keydown: walkBoxes }, title)
    const body = make("div", { class: "body" })
    const node = make(
      "section",
      {
        class: `box ${role ?? name}`,
        "aria-label": title,
        style: `grid-column: ${column + 1}; grid-row: ${rows.indexOf(over) + 1}`,
        pointerenter: () => point(name),
        pointerleave: () => point(null),
        focusin: () => point(name),
        focusout: () => point(null),
      },
      make("h2", {}, button),
      ...(symbol.length && !compact ? [make("p", { class: "symbol" }, ...symbol.filter(Boolean))] : []),
      ...(told ? [make("p", { class: "unseen" }, told)] : []),
      ...(name === "regions" ? [stage] : []),
      body,
    )
    return { about, node, body, button }
  })
  const diagram = make(
    "div",
    { class: "diagram", role: "group", "aria-label": "The way of the word through the captioner" },
    edges,
    ...parts.map((part) => part.node),
  )
  const flow = make(
    "div",
    { class: compact ? "flow compact" : "flow" },
    make("div", { class: "controls" }, words, ...(compact ? [] : [heads])),
    diagram,
  )

  // ---- drawing
  function draw() {
    pressOnly(words, step)
    heads.value = head
    for (const { about, body, button } of parts) {
      const { above, said, rows: shown, below } = content(about)
      body.replaceChildren(
        ...(above ? [make("p", {}, above)] : []),
        ...(said ? [make("p", { class: "said" }, said)] : []),
        ...shown.map(({ text, region, share, told, chosen }) =>
          make(
            "div",
            { class: chosen ? "row chosen" : "row", title: text, style: `--share: ${Math.min(100, 100 * share)}%` },
            ...(region == null ? [] : [crop(region, compact ? 16 : 20)]),
            make("span", {}, text),
            make("data", {}, percent(share)),
            ...(told ? [make("data", {}, told)] : []),
          ),
        ),
        make("p", { class: "below" }, below),
      )
      if (!compact) button.setAttribute("aria-pressed", about.name === box)
    }
    drawPointed()
    drawEdges() // the boxes may have grown
  }
  function drawPointed() {
    const near = pointed ?? box
    paint(weightsOn(near), {})
    for (const { about, node } of parts) node.classList.toggle("near", about.name === near)
    for (const { source, target, kind, line } of lines)
      line.setAttribute("class", `${kind} ${source === near || target === near ? "near" : ""}`)
  }
  function drawEdges() {
    const narrow = diagram.clientWidth < 110 * (1 + byName.next.column)
    diagram.classList.toggle("narrow", narrow)
    edges.setAttribute("viewBox", `0 0 ${diagram.clientWidth} ${diagram.clientHeight}`)
    const at = Object.fromEntries(
      parts.map(({ about, node }) => {
        const [x, y, w, h] = [node.offsetLeft, node.offsetTop, node.offsetWidth, node.offsetHeight]
        return [about.name, { ...about, left: x, right: x + w, top: y, bottom: y + h, middle: y + h / 2 }]
      }),
    )
    const order = data.about.map((each) => each.name)
    for (const { source, target, kind, line } of lines) {
      const a = at[source],
        b = at[target]
      if (narrow) {
        const out = Math.min(36, 8 + 4 * (order.indexOf(target) - order.indexOf(source)))
        line.setAttribute(
          "d",
          `M${a.left},${a.middle} C${a.left - out},${a.middle} ${b.left - out},${b.middle} ${b.left},${b.middle}`,
        )
        continue
      }
      const between = (each) => each.over === a.over && each.column > a.column && each.column < b.column
      if (a.over === b.over && data.about.some(between)) {
        // around the boxes between them
        const up = rows.indexOf(a.over) === 0
        const [y, v, far] = up ? [a.top, b.top, -24] : [a.bottom, b.bottom, 24]
        const x = a.right - 16,
          u = b.left + 16,
          reach = (up ? Math.min(y, v) : Math.max(y, v)) + far
        line.setAttribute(
          "d",
          `M${x},${y} C${x},${reach} ${x + 24},${reach} ${x + 48},${reach} L${u - 48},${reach} C${u - 24},${reach} ${u},${reach} ${u},${v}`,
        )
        continue
      }
      // keys arrive below the word's way
      const below = kind === "keys" ? 10 : 0,
        begin = a.middle + (a.over === b.over ? below : 0),
        end = b.middle + below,
        bend = Math.max(16, (b.left - a.right) / 2)
      line.setAttribute(
        "d",
        `M${a.right},${begin} C${a.right + bend},${begin} ${b.left - bend},${end} ${b.left},${end}`,
      )
    }
  }

  // ---- choosing
  function choose(change) {
    ;({ step, head } = { step, head, ...change })
    draw()
    if (compact) return
    memory.steps[data.digest] = step
    memory.head = head
    clearTimeout(timer)
    timer = setTimeout(commit, REST)
  }
  function open(name) {
    if (compact) return setTriggerValue("opened", { box: name, step })
    box = name
    draw()
    commit()
  }
  function commit() {
    clearTimeout(timer)
    flow.send("choice", { trace: data.digest, step, head, box })
  }
  function point(name) {
    if (pointed === name) return
    pointed = name
    drawPointed()
  }
  const arrow = (event) => ({ ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 })[event.key] ?? 0
  function walkBoxes(event) {
    const by = arrow(event),
      next = parts[parts.findIndex((part) => part.button === event.currentTarget) + by]
    if (!by || !next) return
    event.preventDefault()
    next.button.focus()
  }

  flow.drawn = drawn
  flow.send = setStateValue
  const sizes = new ResizeObserver(drawEdges)
  flow.leave = () => {
    clearTimeout(timer)
    sizes.disconnect()
  }
  parentElement.append(flow)
  draw()
  sizes.observe(diagram)
  return flow.leave
}
