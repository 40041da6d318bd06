// A photograph whose regions and attributes can be struck out and put back, a place to add attributes, and beside it the
// changed scene. A change is drawn at once, and all changes are sent together, so that quick changes lose nothing.

export default function ({ data, parentElement, setStateValue, setTriggerValue }) {
  const old = parentElement.querySelector(".removal")
  if (old?.drawn === data.drawn) return old.update(data, setStateValue, setTriggerValue)
  old?.remove()

  const scene = JSON.parse(data.scene)
  begin(data.start)
  const [width, height] = scene.size
  const N = scene.boxes.length
  // `made` counts the changes; the server's answer to an earlier one does not undo a later one
  let answer = data,
    send = setTriggerValue,
    keep = setStateValue,
    made = data.made ?? 0,
    sending = null
  let step = Math.min(data.start.step, scene.words.length - 1),
    over = data.over,
    hovered = null, // region
    drag = null // rectangle that is being drawn: its first corner, then the other
  let regions = new Set(data.regions),
    attributes = new Set(data.struck),
    added = new Set(data.added)

  // ---- elements
  const words = make(
    "div",
    { class: "words", role: "group", "aria-label": "The caption, word by word" },
    ...scene.words.map((text, t) => {
      const p = percent(Math.exp(scene.log_probabilities[t]))
      const choose = () => {
        step = t
        draw()
        follow()
      }
      return make("button", { "aria-label": `${text}, probability ${p}`, click: choose }, text, make("small", {}, p))
    }),
  )
  rove(words)
  const shown = { ...scene, photo: data.photo, alt: data.alt }
  const wide = `max-width: calc(min(100%, ${Math.round((430 * width) / height)}px))`
  let dragged = false // the last press of the pointer was a drag, not a click
  const now = photograph(shown, {
    tabindex: 0,
    role: "application",
    "aria-label": `${data.alt}. ${N} regions: arrow keys move, plus and minus change the size, Enter strikes out or puts back, Shift and Enter all whose centres lie in the region, Escape clears.`,
    style: wide,
    pointerdown: (event) => {
      dragged = false
      if (event.pointerType !== "touch" && !event.button) drag = [place(event)]
    },
    pointermove: (event) => {
      if (event.pointerType === "touch") return
      if (drag && event.buttons) stretch(event)
      else point(now.at(event)[0] ?? null)
    },
    pointerup: () => {
      dragged = drag?.length === 2
      const corners = drag
      drag = null
      if (dragged) strikeAll(within(corners))
    },
    pointerleave: () => drag || point(null),
    dragstart: (event) => event.preventDefault(), // of the picture itself
    click: (event) => dragged || strike(now.at(event)[0]),
    keydown: press,
  })
  const then = photograph({ ...shown, alt: "The changed scene" }, { style: wide })
  const overlay = ({ stage }) => {
    const layer = vector("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none" }),
      numbers = make("div", { "aria-hidden": "true" })
    stage.append(layer, numbers)
    return { layer, numbers }
  }
  const layers = [overlay(now), overlay(then)]
  const readout = make("p", { class: "readout", "aria-live": "polite" }),
    changedTitle = make("h2"),
    changed = make("p", { class: "caption" }),
    effect = make("p", { class: "readout", "aria-live": "polite" })
  const minis = make(
    "div",
    { class: "minis", role: "group", "aria-label": "All regions" },
    ...scene.names.map((name, i) =>
      make(
        "button",
        {
          "aria-label": `Strike out region ${i + 1}, ${name}`,
          ...visited(
            () => point(i),
            () => point(null),
          ),
          click: () => strike(i),
        },
        make("i", {}, now.crop(i, 38)),
        make("small"),
        make("small"),
      ),
    ),
  )
  rove(minis)
  const kinds = make(
    "div",
    { class: "tabs", role: "group", "aria-label": "What to take away" },
    ...["regions", ...(scene.reads ? ["attributes"] : [])].map((kind) =>
      make(
        "button",
        {
          value: kind,
          click: () => {
            over = kind
            draw()
            follow()
          },
        },
        kind,
      ),
    ),
  )
  rove(kinds)
  const slider = make("input", { type: "range", min: 0, value: 0, input: slide })
  const sliderLabel = make("label"),
    curve = make("div", { class: "curve" }),
    told = make("p", { class: "readout", "aria-live": "polite" })
  const listTitle = make("h2"),
    note = make(
      "p",
      { class: "note" },
      "Click a region to strike it out, again to put it back. ",
      make("span", {}, "Drag on the photograph to strike out all whose centres lie within. "),
      "Regions overlap: what is taken away with one may still be seen in another.",
    )
  const chips = make(
    "div",
    { class: "chips", role: "group", "aria-label": "Attributes of the photograph" },
    ...scene.attributes.map((text, m) =>
      make(
        "button",
        {
          "aria-label": `Strike out the attribute ${text}`,
          style: `--score: ${Math.round(45 * scene.scores[m])}%`,
          click: () => strikeWord(m),
        },
        text + " ",
        make("small"),
      ),
    ),
  )
  rove(chips)
  const more = make("div", { class: "chips", role: "group", "aria-label": "Attributes that you added" })
  const word = make("input", {
    type: "text",
    maxlength: data.longest,
    placeholder: "a word, such as ball",
    autocomplete: "off",
    change: add,
  })
  const after = make("div", { class: "after" }, then.stage, effect)
  const removal = make(
    "div",
    { class: "removal" },
    make(
      "div",
      { class: "two" },
      make(
        "section",
        {},
        make("h2", {}, `${data.title} on the photograph as it is: log p ${signed(scene.total)}`),
        words,
      ),
      make("section", {}, changedTitle, changed),
      make("div", {}, now.stage, now.legend, readout),
      after,
      make("div", {}, make("h2", {}, "Take away the most attended", kinds), sliderLabel, slider, curve, told),
      make("div", {}, listTitle, minis, chips, note),
    ),
    ...(scene.reads ? [make("label", {}, "Add an attribute", word), more] : []),
  )

  // ---- what is in view
  const set = () => (over === "regions" ? regions : attributes)
  const chosen = () => `“${scene.words[step]}”`
  // The curve of the word in view, once the server has sent it.
  const deletion = () => (answer.curve?.step === step && answer.curve.over === over ? answer.curve : null)
  // How many of the most attended are struck out, if those and nothing else were changed; else null.
  function depth() {
    const others = over === "regions" ? attributes : regions
    const plain = deletion() && !others.size && !added.size
    return plain &&
      deletion()
        .order.slice(0, set().size)
        .every((i) => set().has(i))
      ? set().size
      : null
  }
  function without(fall, what) {
    if (fall == null) return "the only one"
    if (Math.abs(fall) < 0.0005) return `without it alone log p of ${what} stays`
    return `without it alone log p of ${what} ${fall > 0 ? "falls" : "rises"} by ${Math.abs(fall).toFixed(3)}`
  }

  // ---- drawing
  function shape(layer, tag, attributes) {
    const node = vector(tag, attributes)
    layer.append(node)
    return node
  }
  function drawStruck({ layer, numbers }) {
    layer.replaceChildren()
    numbers.replaceChildren()
    for (const i of regions) {
      const [x1, y1, x2, y2] = scene.boxes[i]
      shape(layer, "rect", { class: "out", x: x1, y: y1, width: x2 - x1, height: y2 - y1 })
      shape(layer, "path", { class: "out", d: `M${x1} ${y1} L${x2} ${y2} M${x1} ${y2} L${x2} ${y1}` })
      numbers.append(make("span", { style: `left: ${(100 * x1) / width}%; top: ${(100 * y1) / height}%` }, `${i + 1}`))
    }
  }
  function drawPointed() {
    const { layer } = layers[0]
    for (const node of layer.querySelectorAll(".edge, .mark, .drag")) node.remove()
    const box = (css, [x1, y1, x2, y2]) =>
      shape(layer, "rect", {
        class: css,
        x: Math.min(x1, x2),
        y: Math.min(y1, y2),
        width: Math.abs(x2 - x1),
        height: Math.abs(y2 - y1),
      })
    if (drag?.length === 2) box("drag", drag.flat())
    else if (hovered !== null) for (const kind of ["edge", "mark"]) box(kind, scene.boxes[hovered])
    const weights = scene.fine?.[step]
    readout.textContent =
      drag?.length === 2
        ? `${within(drag).length} regions have their centres here.`
        : hovered === null
          ? `${regions.size} of ${N} regions and ${attributes.size} of ${scene.attributes.length} attributes are struck out.`
          : `Region ${hovered + 1}, ${scene.names[hovered]}` +
            (weights
              ? `: ${percent(weights[hovered])} of the attention of ${chosen()}, ${(weights[hovered] * N).toFixed(1)}× the even share`
              : "") +
            (regions.has(hovered)
              ? "; struck out, click or Enter puts it back."
              : `; ${without(scene.region_falls[step]?.[hovered], chosen())}, ${without(scene.region_falls[hovered], "the caption")}.`)
    ;[...minis.children].forEach((button, i) => button.classList.toggle("now", i === hovered))
  }
  function drawChanged() {
    const { after: found } = answer,
      late = (answer.made ?? 0) < made
    const touched = regions.size + attributes.size + added.size > 0
    after.classList.toggle("late", late)
    changed.classList.toggle("late", late)
    after.classList.toggle("same", !touched)
    changedTitle.textContent = !found
      ? `${data.title} on the changed scene`
      : `${data.title} on the changed scene: log p ${signed(found.total)}${found.same ? ", the same words" : ""}`
    changed.replaceChildren(
      ...(found
        ? found.words.flatMap((text, t) => [make("span", found.differs[t] ? { class: "differs" } : {}, text), " "])
        : ["Strike out a region or an attribute, or add one, to see."]),
    )
    then.paint((found ?? scene).fine?.[step] ?? null)
    drawStruck(layers[1])
    const own = scene.log_probabilities[step],
      other = found ? found.log_probabilities[step] : own
    effect.textContent = found
      ? `${chosen()}: probability ${percent(Math.exp(own))} as it is, ${percent(Math.exp(other))} on the changed scene, after the same words; log p ${signed(own)} and ${signed(other)}.`
      : "Nothing is changed yet."
  }
  function drawCurve() {
    const found = deletion(),
      count = over === "regions" ? N : scene.attributes.length,
      k = depth()
    ;[...kinds.children].forEach((b) => b.setAttribute("aria-pressed", b.value === over))
    slider.max = count - 1
    slider.disabled = !found
    slider.setAttribute("aria-label", `How many of the ${over} that ${chosen()} attends to most are taken away`)
    if (+slider.value !== set().size) slider.value = set().size
    sliderLabel.textContent = !set().size
      ? `None of ${count} ${over} is taken away`
      : k === null
        ? `${set().size} of ${count} ${over} are taken away, as you chose`
        : `Taken away: the ${k} most attended of ${count} ${over}`
    const attends = over === "regions" ? scene.fine : scene.read
    for (const part of [slider, curve]) part.hidden = !attends
    if (!attends) told.textContent = `${data.title} attends to no ${over}: strike them out one by one.`
    if (!found) {
      curve.classList.add("late")
      return
    }
    const [most, least] = [found.most_first, found.least_first]
    const all = [...most, ...least],
      low = Math.min(...all),
      high = Math.max(...all, low + 0.1)
    const [left, right, top, bottom] = [46, 350, 12, 130]
    const x = (i) => left + ((right - left) * i) / Math.max(1, count - 1),
      y = (v) => top + ((bottom - top) * (high - v)) / (high - low)
    const line = (values) => values.map((v, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(v).toFixed(1)}`).join(" ")
    const svg = document.createElementNS(SVG, "svg")
    svg.setAttribute("viewBox", "0 0 360 164")
    svg.setAttribute("role", "img")
    svg.setAttribute(
      "aria-label",
      `log p of ${chosen()} as ${over} are taken away, the most attended first: from ${signed(most[0])} to ${signed(most.at(-1))}; the least attended first: to ${signed(least.at(-1))}.`,
    )
    shape(svg, "path", { class: "axis", d: `M${left} ${top} V${bottom} H${right}` })
    shape(svg, "path", { class: "least", d: line(least) })
    shape(svg, "path", { class: "rest", d: line(most) })
    if (k !== null) {
      shape(svg, "path", { class: "most", d: line(most.slice(0, k + 1)) })
      shape(svg, "circle", { class: "most", cx: x(k), cy: y(most[k]), r: 4 })
    }
    const text = (u, v, anchor, words) =>
      (shape(svg, "text", { x: u, y: v, "text-anchor": anchor }).textContent = words)
    text(left - 5, top + 4, "end", signed(high))
    text(left - 5, bottom, "end", signed(low))
    text(left, bottom + 14, "middle", "0")
    text(right, bottom + 14, "end", `${count - 1}`)
    text((left + right) / 2, bottom + 14, "middle", `${over} taken away`)
    text(left, bottom + 31, "start", "log p: full line, most attended first; dashed, least first")
    curve.classList.remove("late")
    curve.replaceChildren(svg)
    told.textContent =
      k === null
        ? "The curve is of the photograph with nothing else changed; the slider returns to it."
        : !k
          ? `With all ${over} log p of ${chosen()} is ${signed(most[0])}.`
          : `Without the ${k} most attended log p of ${chosen()} is ${signed(most[k])}; without the ${k} least attended ${signed(least[k])}.`
  }
  function draw() {
    const weights = scene.fine?.[step] ?? null,
      falls = scene.region_falls[step],
      readings = scene.read?.[step]
    pressOnly(words, step)
    now.paint(weights)
    drawStruck(layers[0])
    drawPointed()
    drawChanged()
    drawCurve()
    const reach = weights && Math.max(...weights)
    ;[...minis.children].forEach((button, i) => {
      button.setAttribute("aria-pressed", regions.has(i))
      button.style.setProperty("--share", weights ? `${(100 * weights[i]) / reach}%` : "0%")
      const [share, fall] = button.querySelectorAll("small")
      share.textContent = weights ? percent(weights[i]) : ""
      fall.textContent = signed(falls?.[i], 3)
      const attended = weights ? `attention ${percent(weights[i])}; ` : ""
      button.title = `${i + 1}: ${scene.names[i]}; ${attended}${without(falls?.[i], chosen())}`
    })
    for (const part of [minis, note]) part.hidden = over !== "regions"
    chips.hidden = over === "regions"
    listTitle.textContent =
      over === "regions"
        ? weights
          ? `Regions: attention of ${chosen()}, and its fall of log p without each`
          : `Regions: the fall of log p of ${chosen()} without each`
        : readings
          ? `Attributes: attention of ${chosen()} to each`
          : "Attributes, with their probability; this captioner attends to none"
    ;[...chips.children].forEach((button, m) => {
      button.setAttribute("aria-pressed", attributes.has(m))
      button.querySelector("small").textContent = percent(readings?.[m] ?? scene.scores[m])
      button.title = `${scene.attributes[m]}: probability ${percent(scene.scores[m])}; ${without(scene.attribute_falls[step]?.[m], chosen())}, ${without(scene.falls_of_caption[m], "the caption")}`
    })
    more.replaceChildren(
      ...[...added].map((name) =>
        make("button", { "aria-label": `Take out ${name} again`, click: () => toggle(added, name) }, `${name} ×`),
      ),
    )
  }

  // ---- what a person does
  function point(region) {
    if (region === hovered) return
    hovered = region
    drawPointed()
  }
  // The word and the kind in view, for the curve; the change itself goes by `commit`.
  function follow() {
    keep("choice", { trace: scene.digest, step, head: memory.head, region: null, over })
    memory.steps[scene.digest] = step
  }
  function commit(delay = 0) {
    made++
    draw()
    clearTimeout(sending)
    const message = () =>
      send("edit", {
        trace: scene.digest,
        made,
        regions: [...regions],
        attributes: [...attributes],
        added: [...added],
      })
    if (delay) sending = setTimeout(message, delay)
    else message()
  }
  function toggle(group, one) {
    if (!group.delete(one)) group.add(one)
    commit()
  }
  function strike(region) {
    if (region !== undefined) toggle(regions, region)
  }
  function strikeWord(attribute) {
    toggle(attributes, attribute)
  }
  // Strikes out several, or puts them back where all of them are.
  function strikeAll(several) {
    drawPointed()
    if (!several.length) return
    const back = several.every((i) => regions.has(i))
    for (const i of several) regions[back ? "delete" : "add"](i)
    commit()
  }
  function slide() {
    const most = new Set(deletion().order.slice(0, +slider.value))
    if (over === "regions") regions = most
    else attributes = most
    commit(250) // once it rests
  }
  function place(event) {
    const frame = now.stage.getBoundingClientRect()
    const along = (at, from, size) => Math.min(1, Math.max(0, (at - from) / size))
    return [
      width * along(event.clientX, frame.left, frame.width),
      height * along(event.clientY, frame.top, frame.height),
    ]
  }
  function stretch(event) {
    const to = place(event),
      [from] = drag
    const far = Math.hypot(to[0] - from[0], to[1] - from[1]) > 0.02 * Math.hypot(width, height)
    if (drag.length === 1 && !far) return
    if (drag.length === 1) now.stage.setPointerCapture(event.pointerId)
    drag = [from, to]
    drawPointed()
  }
  function within([[a, b], [c, d]]) {
    const between = (v, p, q) => Math.min(p, q) <= v && v <= Math.max(p, q)
    return [...scene.boxes.keys()].filter((i) => {
      const [x1, y1, x2, y2] = scene.boxes[i]
      return between((x1 + x2) / 2, a, c) && between((y1 + y2) / 2, b, d)
    })
  }
  function add() {
    const name = word.value.trim().toLowerCase()
    word.value = ""
    if (added.size >= data.most)
      readout.textContent = `At most ${data.most} attributes can be added; take one out first.`
    else if (name && !added.has(name)) toggle(added, name)
  }
  function press(event) {
    const next =
      hovered === null && event.key.startsWith("Arrow")
        ? 0
        : hovered === null
          ? undefined
          : now.visit(hovered, event.key)
    if (next !== undefined) point(next)
    else if (event.key === "Enter" && hovered !== null && event.shiftKey) {
      const [x1, y1, x2, y2] = scene.boxes[hovered]
      const corners = [
        [x1, y1],
        [x2, y2],
      ]
      strikeAll(within(corners))
    } else if (event.key === "Enter" && hovered !== null) strike(hovered)
    else if (event.key === "Escape") {
      drag = null
      hovered = null
      drawPointed()
    } else return
    event.preventDefault()
  }

  removal.drawn = data.drawn
  removal.update = (found, keeper, sender) => {
    send = sender
    keep = keeper
    if (found.made === null && answer.made !== null) made = 0 // the server has restarted and knows no changes
    if ((found.made ?? 0) < made) return
    answer = found
    regions = new Set(found.regions)
    attributes = new Set(found.struck)
    added = new Set(found.added)
    draw()
  }
  parentElement.append(removal)
  draw()
}
